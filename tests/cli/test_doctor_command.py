"""`a2a-gateway doctor`: distinguishes what is as it should be, what is missing and what is broken."""

import json
import re
import sys
from pathlib import Path

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.cli.conftest import CommandLine, Served
from tests.error_texts.texts import pattern_of


def statuses(command_line: CommandLine, *arguments: str, **environ: str) -> tuple[int, dict[str, str]]:
    result = command_line.run("doctor", "--json", *arguments, **environ)
    return result.exit_code, {finding["what"]: finding["status"] for finding in json.loads(result.stdout)}


def test_on_a_fresh_machine_nothing_is_broken_but_what_is_missing_is_named(command_line: CommandLine, unused_port: int) -> None:
    assert statuses(command_line, A2A_PORT=str(unused_port)) == (
        0,
        {
            "python": "ok",
            "openhands": "ok",
            "settings": "ok",
            "data directory": "missing",
            "profiles": "missing",
            "keys of agents": "ok" if sys.platform == "linux" else "missing",
            "gateway": "missing",
        },
    )


def test_with_an_llm_and_a_running_gateway_all_is_well(served: Served) -> None:
    exit_code, found = statuses(served, LLM_MODEL="openai/gpt-4o-mini", LLM_API_KEY="sk-not-used")
    assert (exit_code, set(found.values())) == (0, {"ok"})


def test_an_agent_with_a_budget_and_without_a_price_is_broken(command_line: CommandLine, unused_port: int) -> None:
    llm = {"LLM_MODEL": "openai/one-of-my-own", "LLM_API_KEY": "sk-not-used", "A2A_PORT": str(unused_port)}
    result = command_line.run("doctor", "--json", **llm)
    [finding] = [finding for finding in json.loads(result.stdout) if finding["what"] == "price"]
    assert (result.exit_code, finding["status"]) == (1, "broken")
    assert "openhands_default: no price is known for openai/one-of-my-own" in finding["detail"]
    for remedy in ({"A2A_UNPRICED_USD_PER_MTOK": "0"}, {"A2A_BUDGET_USD": "none"}):
        exit_code, found = statuses(command_line, **llm, **remedy)
        assert (exit_code, "price" in found) == (0, False), remedy


def test_what_a_key_in_the_hands_of_an_agent_means_is_told(command_line: CommandLine) -> None:
    def finding_for(use: str) -> tuple[str, str]:
        result = command_line.run("doctor", "--json", A2A_AGENT_KEY_USE=use)
        [finding] = [finding for finding in json.loads(result.stdout) if finding["what"] == "keys of agents"]
        return finding["status"], finding["detail"]

    assert finding_for("allow") == ("missing", "agent_key_use is `allow`: an agent that finds a key can start trees with it")
    if sys.platform == "linux":
        assert finding_for("child") == ("ok", "an agent on this machine that has found a key stays a child of its own run")


def test_a_data_directory_that_others_can_read_is_broken(command_line: CommandLine, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    data_dir.chmod(0o755)
    exit_code, found = statuses(command_line)
    assert (exit_code, found["data directory"]) == (1, "broken")
    data_dir.chmod(0o700)
    assert statuses(command_line)[1]["data directory"] == "ok"


def test_a_port_that_something_else_has_is_broken(command_line: CommandLine) -> None:
    with ScriptedLLM.in_thread() as other:
        exit_code, found = statuses(command_line, A2A_PORT=other.root_url.rpartition(":")[2])
    assert (exit_code, found["gateway"]) == (1, "broken")


def test_a_key_that_the_gateway_refuses_is_broken(served: Served) -> None:
    exit_code, found = statuses(served, A2A_API_KEY="a2a_wrong")
    assert (exit_code, found["gateway"]) == (1, "broken")


def test_settings_that_cannot_be_read_are_named_without_a_traceback(command_line: CommandLine) -> None:
    result = command_line.run("doctor", A2A_MAX_DEPTH="deep")
    assert result.exit_code == 1
    assert "A2A_MAX_DEPTH" in result.stdout
    assert "Traceback" not in result.output


def test_each_peer_is_asked_for_its_agents_and_what_is_wrong_with_one_is_said(served: Served, tmp_path: Path) -> None:
    peers = {
        "well": f'base_url = "{served.gateway.base_url}"\napi_key_env = "PEER_KEY"',
        "wrong-key": f'base_url = "{served.gateway.base_url}"\napi_key = "sk-no-key-of-its-own"',
        "no-key": 'base_url = "http://127.0.0.1:9/v1"\napi_key_env = "NOT_SET"',
        "down": 'base_url = "http://127.0.0.1:9/v1"\napi_key = "x"',
        "empty": f'base_url = "{served.gateway.base_url}"\napi_key_env = "PEER_KEY"\nagents = ["openhands_nobody"]',
        "unpriced": f'base_url = "{served.gateway.base_url}"\napi_key_env = "PEER_KEY"\nopaque = true',
        "priced": f'base_url = "{served.gateway.base_url}"\napi_key_env = "PEER_KEY"\nopaque = true\nreports_cost = true',
    }
    tables = "\n".join(f'[[peers]]\nid = "{name}"\n{rest}' for name, rest in peers.items())
    (tmp_path / "gateway.toml").write_text(f'gateway_id = "here"\n{tables}\n')
    environ = {"PEER_KEY": served.gateway.key, "A2A_UNPRICED_USD_PER_MTOK": ""}
    result = served.run("doctor", "--json", "--config", str(tmp_path / "gateway.toml"), **environ)
    found = {f["what"]: (f["status"], f["detail"]) for f in json.loads(result.stdout) if f["what"].startswith("peer ")}
    assert {what: status for what, (status, _) in found.items()} == {
        "peer well": "ok",
        "peer wrong-key": "broken",
        "peer no-key": "broken",
        "peer down": "broken",
        "peer empty": "missing",
        "peer unpriced": "broken",
        "peer priced": "ok",
    }
    assert "well/openhands_" in found["peer well"][1]
    assert "HTTP 401" in found["peer wrong-key"][1]
    assert re.search(pattern_of("doctor: a peer without a key"), found["peer no-key"][1])
    assert re.search(pattern_of("doctor: a peer that is down"), found["peer down"][1])
    assert re.search(pattern_of("doctor: a peer without prices"), found["peer unpriced"][1])
    assert result.exit_code == 1
