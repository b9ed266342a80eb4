"""`a2a-gateway doctor`: tells apart what is as it should be, what is missing and what is broken."""

import json
from pathlib import Path

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.cli.conftest import CommandLine, Served


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
            "gateway": "missing",
        },
    )


def test_with_an_llm_and_a_running_gateway_all_is_well(served: Served) -> None:
    exit_code, found = statuses(served, LLM_MODEL="openai/gpt-4o-mini", LLM_API_KEY="sk-not-used")
    assert (exit_code, set(found.values())) == (0, {"ok"})


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
    assert "max_depth" in result.stdout
    assert "Traceback" not in result.output
