"""`a2a-gateway peer`: two gateways exchange keys with one command on each side."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from a2a_gateway.peers import SigningKey
from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.cli.conftest import CommandLine
from tests.error_texts.texts import pattern_of
from tests.support.ask import direct, user
from tests.support.gateway import GatewayUnderTest, gateway_in_thread, scripted_environ


def test_one_command_on_each_side_makes_two_gateways_known_to_each_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread(direct=direct))
        office, laptop = (_begin(stack, tmp_path / name, llm, name) for name in ("office", "laptop"))
        at_office, at_laptop = (_command_line(gateway, llm) for gateway in (office, laptop))

        added = at_laptop.run_json("peer", "add", office.base_url, "--budget-usd", "2")
        assert (added["id"], added["gateway_id"], added["shows"]) == ("office", "office", "grants")
        assert added["public_key"] == at_office.run_json("peer", "key")["public_key"]
        there = at_office.run("peer", "add", laptop.base_url, "--accept-budget-usd", "1")
        assert (there.exit_code, at_laptop.run_json("peer", "key")["public_key"] in there.stdout) == (0, True)
        assert f"peer add {office.base_url}" in there.stderr  # with the port that it has, not that of its settings
        laptop.portal.call(laptop.running.gateway.started.result().directory.refresh)  # instead of half a minute later

        with laptop.sync_client() as client:
            message = user("Hello.", Step(content="from the office"))
            answer = client.chat.completions.create(model="office/openhands_default", messages=[message])
        assert answer.choices[0].message.content == "from the office"
        assert _finding(at_laptop, "peer office")["status"] == "ok"

        renewed = at_laptop.run("peer", "key", "--rotate")
        assert renewed.exit_code == 0
        assert re.search(pattern_of("exit 0: a new key for grants"), renewed.stderr)
        assert renewed.stdout.strip() == at_laptop.run_json("peer", "key")["public_key"]
        assert _finding(at_laptop, "peer office")["detail"] == "it answers HTTP 401"  # it knows the old one
        assert _published_key(laptop) != renewed.stdout.strip()  # so does the gateway, until it is started again
        again = ("peer", "add", "--id", "laptop", "--public-key", renewed.stdout.strip())
        assert at_office.run(*again).exit_code == 0
        assert _finding(at_laptop, "peer office")["status"] == "ok"

        assert at_office.run("peer", "remove", "laptop").exit_code == 0
        broken = _finding(at_laptop, "peer office")
        assert (broken["status"], broken["detail"]) == ("broken", "it answers HTTP 401")
        assert "`a2a-gateway peer add` there" in broken["remedy"]


def _begin(stack: ExitStack, data_dir: Path, llm: ScriptedLLM, name: str) -> GatewayUnderTest:
    environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(data_dir / "openhands"))
    return stack.enter_context(gateway_in_thread(data_dir, environ, gateway_id=name, shell_pool_size=0))


def _command_line(gateway: GatewayUnderTest, llm: ScriptedLLM) -> CommandLine:
    environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(gateway.data_dir / "openhands"))
    named = {"A2A_DATA_DIR": str(gateway.data_dir), "A2A_GATEWAY_ID": gateway.running.settings.gateway_id}
    return CommandLine({**environ, **named, "A2A_BASE_URL": gateway.base_url, "A2A_API_KEY": gateway.key})


def _published_key(gateway: GatewayUnderTest) -> str:
    published = httpx.get(gateway.base_url.removesuffix("/v1") + "/.well-known/jwks.json").json()
    return str(published["keys"][0]["x"])


def _finding(command_line: CommandLine, what: str) -> dict[str, str]:
    findings: list[dict[str, str]] = json.loads(command_line.run("doctor", "--json").stdout)
    (found,) = [finding for finding in findings if finding["what"] == what]
    return found


def test_a_peer_is_listed_until_it_is_removed_and_may_be_added_again(command_line: CommandLine) -> None:
    laptop, key = CommandLine({**command_line.environ, "A2A_GATEWAY_ID": "laptop"}), SigningKey.generate().public_key
    add = ["peer", "add", "http://box.example", "--id", "box", "--public-key", key]
    assert laptop.run(*add, "--accept-agents", "openhands_a,openhands_b", "--accept-budget-per-day-usd", "3").exit_code == 0
    (listed,) = laptop.run_json("peer", "list")
    assert listed == {
        "id": "box",
        "gateway_id": None,
        "base_url": "http://box.example/v1",
        "public_key": key,
        "jwks_url": None,
        "agents": None,
        "budget_usd": None,
        "opaque": False,
        "shows": "grants",
        "accepts": {"agents": listed["accepts"]["agents"], "budget_per_day_usd": "3"},
    }
    assert sorted(listed["accepts"]["agents"]) == ["openhands_a", "openhands_b"]
    assert "openhands_a, openhands_b" in laptop.run("peer", "list").stdout

    limits = "--accept-max-concurrent-runs", "2", "--accept-requests-per-minute", "30"
    assert laptop.run(*add, "--accept-agents", "", *limits).exit_code == 0
    accepts = laptop.run_json("peer", "list")[0]["accepts"]
    assert accepts == {"agents": [], "max_concurrent_runs": 2, "requests_per_minute": 30}
    assert laptop.run_json("peer", "remove", "box") == {"removed": "box"}
    assert laptop.run_json("peer", "list") == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "pattern"),
    [
        (["add"], 2, pattern_of("exit 2: a peer that nothing names")),
        (["add", "--id", "x", "--public-key", "short"], 2, "--public-key: "),
        (["add", "--id", "laptop", "--public-key", "A" * 43], 1, pattern_of("exit 1: a peer with the gateway's own id")),
        (
            ["add", "--id", "openhands_x", "--public-key", "A" * 43],
            2,
            pattern_of("exit 2: a peer whose id begins like a profile's"),
        ),
        (["add", "--id", "x", "--public-key", "A" * 43, "--accept-budget-usd", "much"], 2, "--accept-budget-usd: "),
        (["add", "http://127.0.0.1:9/v1"], 1, pattern_of("exit 1: a peer that publishes no keys")),
        (["add", "not a url"], 2, pattern_of("exit 2: a peer at what is no URL")),
        (["remove", "missing"], 1, pattern_of("configuration_error: no such peer was added")),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    command_line: CommandLine, arguments: list[str], exit_code: int, pattern: str
) -> None:
    result = command_line.run("peer", *arguments, A2A_GATEWAY_ID="laptop")
    assert result.exit_code == exit_code
    assert re.search(pattern, result.stderr)
    assert len(result.stderr.strip().splitlines()) <= 3


def test_a_gateway_without_a_name_of_its_own_is_told_to_take_one(command_line: CommandLine) -> None:
    result = command_line.run("peer", "add", "--id", "box", "--public-key", SigningKey.generate().public_key)
    assert result.exit_code == 1
    assert "A2A_GATEWAY_ID" in result.stderr
