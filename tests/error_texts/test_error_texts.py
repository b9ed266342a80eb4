"""The text of each error, once. Other tests assert codes and details, so that an error is reworded by one edit."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_gateway.errors import GatewayError
from delegate_tool.protocol.codes import ERROR_CODES
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
    error = await caused_by(CASES[name], tmp_path)
    code, text = (error.code, error.message) if isinstance(error, GatewayError) else (type(error).__name__, str(error))
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
    assert (name.partition(":")[0], result.stdout) == (f"exit {result.exit_code}", "")
    check_text(name, result.stderr, tmp_path)


def test_every_code_has_a_text_and_no_text_is_left_over() -> None:
    assert set(texts()) == {*CASES, *over_http.CASES, *cli.CASES}
    assert set(ERROR_CODES) - {name.partition(":")[0] for name in texts()} == NEVER_RAISED


async def caused_by(case: Case, tmp_path: Path) -> Exception:
    """Return the error that a case raises or returns."""
    try:
        result = case(tmp_path)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # noqa: BLE001  # any error is what a case is for
        return error
    assert isinstance(result, Exception), "no error was raised"
    return result
