"""The text of each error, once. Other tests assert codes and details, so that an error is reworded by one edit."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_gateway.errors import GatewayError
from delegate_tool.protocol.codes import ERROR_CODES
from delegate_tool.schema import DelegationObservation
from tests.cli.conftest import CommandLine
from tests.error_texts import agents, cli, core, over_http, peers, server, stores
from tests.error_texts.texts import Case, check_text, texts
from tests.support.gateway import GatewayUnderTest, scripted_gateway

pytestmark = pytest.mark.anyio
NEVER_RAISED = {"admission_refused", "peer_failed"}
"""Codes of classes that only others are derived from."""
CASES: dict[str, Case] = {**core.CASES, **stores.CASES, **peers.CASES, **agents.CASES, **server.CASES}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    with scripted_gateway(tmp_path_factory.mktemp("gateway"), gateway_id="here", heartbeat_s=60) as (running, _):
        yield running


@pytest.mark.parametrize("name", CASES)
async def test_an_error_has_its_text(name: str, tmp_path: Path) -> None:
    code, text = code_and_text(await caused_by(CASES[name], tmp_path))
    assert name.partition(":")[0] == code
    check_text(name, text, tmp_path)


@pytest.mark.parametrize("name", over_http.CASES)
async def test_an_error_response_has_its_text(name: str, gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        error = (await over_http.CASES[name](http)).json()["error"]
    assert name.partition(":")[0] == error["code"]
    check_text(name, error["message"])


@pytest.mark.parametrize("name", cli.CASES)
def test_a_failed_command_prints(name: str, tmp_path: Path) -> None:
    command_line = CommandLine({"A2A_DATA_DIR": str(tmp_path / "data"), "OH_PERSISTENCE_DIR": str(tmp_path / "openhands")})
    result = cli.CASES[name](command_line, tmp_path)
    assert name.partition(":")[0] == f"exit {result.exit_code}"
    assert result.stdout == "" or result.exit_code == 0
    check_text(name, result.stderr, tmp_path)


@pytest.mark.parametrize("name", cli.SERVED)
def test_a_command_that_a_gateway_refuses_prints(name: str, gateway: GatewayUnderTest, tmp_path: Path) -> None:
    command_line = CommandLine({"A2A_BASE_URL": gateway.base_url.removesuffix("/v1") + "/api", "A2A_API_KEY": gateway.key})
    result = cli.SERVED[name](command_line, tmp_path)
    assert (name.partition(":")[0], result.stdout) == (f"exit {result.exit_code}", "")
    check_text(name, result.stderr)


def test_each_finding_of_doctor_has_its_text(gateway: GatewayUnderTest, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(cli.PEERS.format(base_url=gateway.base_url, key=gateway.key))
    command_line = CommandLine({"A2A_DATA_DIR": str(tmp_path / "data"), "OH_PERSISTENCE_DIR": str(tmp_path / "openhands")})
    result = command_line.run("doctor", "--json", "--config", str(tmp_path / "gateway.toml"))
    details = {finding["what"]: finding["detail"] for finding in json.loads(result.stdout)}
    for name, what in cli.FINDINGS.items():
        check_text(name, details[what], tmp_path)


def test_every_code_has_a_text_and_no_text_is_left_over() -> None:
    assert set(texts()) == {*CASES, *over_http.CASES, *cli.CASES, *cli.SERVED, *cli.FINDINGS}
    assert set(ERROR_CODES) - {name.partition(":")[0] for name in texts()} == NEVER_RAISED


def code_and_text(error: object) -> tuple[str | None, str]:
    match error:
        case GatewayError():
            return error.code, error.message
        case DelegationObservation():
            return error.error_code, error.message or ""
        case Exception():
            return type(error).__name__, str(error)
        case _:
            pytest.fail(f"no error was raised: {error!r}")


async def caused_by(case: Case, tmp_path: Path) -> object:
    """Return the error that a case raises, or what it returns."""
    try:
        result = case(tmp_path)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # noqa: BLE001  # any error is what a case is for
        return error
    return result
