"""`a2a-gateway llms`: what the agents' LLMs are, and whether each answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openhands.sdk import LLM
from openhands.sdk.llm.llm_profile_store import LLMProfileStore

from a2a_gateway.testing.script import Script, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.cli.conftest import CommandLine

KEY = "sk-of-the-provider-0123456789"


@pytest.fixture(scope="module")
def good() -> Iterator[ScriptedLLM]:
    with ScriptedLLM.in_thread(Script((Step(content="ok", usage="estimated"),))) as llm:
        yield llm


@pytest.fixture(scope="module")
def refusing() -> Iterator[ScriptedLLM]:
    step = Step(status=401, error=f"Incorrect API key provided: {KEY}", code="invalid_api_key")
    with ScriptedLLM.in_thread(Script((step,) * 9)) as llm:
        yield llm


@pytest.fixture
def configured(command_line: CommandLine, good: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A machine with an LLM in gateway.toml, one that OpenHands has saved, one in the environment, and one of a profile."""
    monkeypatch.chdir(tmp_path)
    Path("gateway.toml").write_text(
        f'[[llms]]\nname = "fast"\nmodel = "openai/one"\nbase_url = "{good.base_url}"\napi_key_env = "FAST_KEY"\n'
        "input_usd_per_mtok = 1.5\noutput_usd_per_mtok = 6\ncontext_length = 50000\n"
        '[[llms]]\nname = "keyless"\nmodel = "openai/two"\napi_key_file = "missing.key"\n'
    )
    LLMProfileStore(tmp_path / "openhands" / "profiles").save(
        "kept", LLM(model="openai/gpt-4o-mini", api_key=KEY), include_secrets=True
    )
    Path("profiles").mkdir()
    Path("profiles/reviewer.md").write_text("---\nname: reviewer\nmodel: fast\n---\nReview.\n")
    Path("profiles/alone.md").write_text(
        f"---\nname: alone\nmodel: openai/three\na2a:\n  base_url: {good.base_url}\n---\nWork.\n"
    )
    return CommandLine(
        {**command_line.environ, "FAST_KEY": KEY, "LLM_MODEL": "ollama/llama3.1", "ALLOW_SHORT_CONTEXT_WINDOWS": "1"}
    )


def rows(listed: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in listed]


def test_the_list_has_all_llms_with_the_sources_of_their_keys_and_their_users(configured: CommandLine) -> None:
    listed = configured.run_json("llms", "list")
    assert rows(listed, "name", "source", "key", "used_by") == [
        ("fast", "gateway.toml", {"from": "FAST_KEY", "is_set": True}, ["openhands_fast", "openhands_reviewer"]),
        ("keyless", "gateway.toml", {"from": "missing.key", "is_set": False}, []),
        ("kept", "OpenHands", {"from": "OpenHands", "is_set": True}, ["openhands_kept"]),
        ("LLM_MODEL", "environment", {"from": None, "is_set": False}, ["openhands_default"]),
        ("openhands_alone", "alone.md", {"from": None, "is_set": False}, ["openhands_alone"]),
    ]


def test_the_list_has_prices_and_contexts_and_problems(configured: CommandLine) -> None:
    listed = configured.run_json("llms", "list")
    prices = rows(listed, "price_source", "input_usd_per_mtok", "output_usd_per_mtok")
    assert prices == [("configured", 1.5, 6), (None, None, None), ("litellm", 0.15, 0.6), ("local", 0, 0), ("local", 0, 0)]
    assert listed[0]["context_length"] == 50_000
    assert [row["name"] for row in listed if row["problem"]] == ["keyless"]


def test_no_key_is_printed(configured: CommandLine) -> None:
    for arguments in (["list"], ["list", "--json"], ["check", "fast"]):
        result = configured.run("llms", *arguments)
        assert "fast" in result.output
        assert KEY not in result.output + result.stderr


def test_check_calls_each_named_llm_once_and_reports_tokens_and_cost(configured: CommandLine, good: ScriptedLLM) -> None:
    before = good.traffic.received
    result = configured.run("llms", "check", "fast", "openhands_alone", "--json")
    assert (result.exit_code, good.traffic.received - before) == (0, 2)
    first, second = json.loads(result.stdout)
    assert (first["name"], first["ok"], first["answer"], second["cost_usd"]) == ("fast", True, "ok", "0.000000")
    assert float(first["cost_usd"]) == pytest.approx(
        (1.5 * first["prompt_tokens"] + 6 * first["completion_tokens"]) / 1e6, abs=1e-6
    )
    request = good.traffic.requests[-1]
    assert request.body["stream"] is True
    assert [tool["function"]["name"] for tool in request.body["tools"]] == ["finish"]


def test_check_says_beforehand_what_it_costs_at_most(configured: CommandLine) -> None:
    assert "less than a cent" in configured.run("llms", "check", "fast").stderr


def test_check_reports_a_wrong_key_and_an_absent_server_with_remedies(
    command_line: CommandLine, refusing: ScriptedLLM, unused_port: int, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[[llms]]\nname = "locked"\nmodel = "openai/one"\nbase_url = "{refusing.base_url}"\napi_key_env = "LOCKED_KEY"\n'
        f'[[llms]]\nname = "gone"\nmodel = "openai/one"\nbase_url = "http://127.0.0.1:{unused_port}/v1"\n'
        f'[[llms]]\nname = "plain"\nmodel = "openai/one"\nbase_url = "{refusing.base_url.replace("http:", "https:")}"\n'
        '[[llms]]\nname = "broken"\nmodel = "openai/one"\napi_key_env = "NOT_SET"\n'
    )
    before = refusing.traffic.received
    result = command_line.run("llms", "check", "--json", "--config", str(config), LOCKED_KEY=KEY)
    checked = {row["name"]: row["error"] for row in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert {name: error["code"] for name, error in checked.items()} == {
        "locked": "llm_auth_failed",
        "gone": "llm_unavailable",
        "plain": "llm_unavailable",
        "broken": "configuration_error",
    }
    assert refusing.traffic.received - before == 1  # nothing is sent again
    assert "LOCKED_KEY" in checked["locked"]["remedy"]
    assert "Start the server" in checked["gone"]["remedy"]
    assert "SSL_CERT_FILE" in checked["plain"]["remedy"]
    assert KEY not in result.output


def test_check_names_the_flags_of_a_server_without_tool_calling(command_line: CommandLine, tmp_path: Path) -> None:
    refusal = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    config = tmp_path / "gateway.toml"
    with ScriptedLLM.in_thread(Script((Step(status=400, error=refusal),))) as llm:
        config.write_text(f'[[llms]]\nname = "vllm"\nmodel = "openai/one"\nbase_url = "{llm.base_url}"\n')
        result = command_line.run("llms", "check", "--json", "--config", str(config))
    [row] = json.loads(result.stdout)
    assert (row["ok"], row["error"]["code"]) == (False, "llm_bad_request")
    assert "start vLLM with --enable-auto-tool-choice" in row["error"]["remedy"]


def test_the_list_for_people_fits_into_80_columns(configured: CommandLine) -> None:
    lines = configured.run("llms", "list").stdout.splitlines()
    assert [line for line in lines if "context 50,000" in line] != []
    assert [line for line in lines if len(line.rstrip()) > 80] == []


def test_check_waits_no_longer_than_it_may(command_line: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    with ScriptedLLM.in_thread(Script((Step(hang=True),))) as llm:
        config.write_text(f'[[llms]]\nname = "slow"\nmodel = "openai/one"\nbase_url = "{llm.base_url}"\n')
        result = command_line.run("llms", "check", "--timeout", "1", "--json", "--config", str(config))
    [row] = json.loads(result.stdout)
    assert (result.exit_code, row["error"]["code"]) == (1, "llm_unavailable")
    assert "--timeout" in row["error"]["remedy"]


def test_an_unknown_name_is_wrong_usage_with_a_suggestion(configured: CommandLine) -> None:
    result = configured.run("llms", "check", "fats")
    assert result.exit_code == 2
    assert "did you mean fast?" in result.stderr


def test_without_any_llm_the_commands_name_the_way_to_add_one(command_line: CommandLine, tmp_path: Path) -> None:
    nowhere = ("--profiles", str(tmp_path / "none"))
    assert "[[llms]]" in command_line.run("llms", "list", *nowhere).stderr
    result = command_line.run("llms", "check", *nowhere)
    assert result.exit_code == 1
    assert "[[llms]]" in result.stderr
