"""`a2a-gateway profiles`: what would be served, and what is wrong with the rest."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Served

_GOOD = "---\nname: scribe\ndescription: Takes notes.\ntools: [file_editor]\na2a:\n  max_depth: 1\n---\nYou are a scribe.\n"
_BAD = "---\nname: broken\ndescription: Cannot work.\na2a:\n  max_depht: 1\n---\nYou are broken.\n"
_LLM = {"LLM_MODEL": "openai/gpt-4o-mini", "LLM_API_KEY": "sk-not-used"}


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    directory = tmp_path / "profiles"
    directory.mkdir()
    directory.joinpath("scribe.md").write_text(_GOOD)
    return directory


def test_a_list_names_the_agents_with_what_they_can_do(command_line: CommandLine, profiles: Path) -> None:
    default, scribe = command_line.run_json("profiles", "list", "--profiles", str(profiles), **_LLM)
    assert (default["id"], default["llm"]) == ("openhands_default", "openai/gpt-4o-mini")
    assert (scribe["name"], scribe["description"], scribe["limits"]) == ("scribe", "Takes notes.", {"max_depth": 1})
    assert scribe["capabilities"]["tools"] == ["file_editor"]
    assert "openhands_scribe" in command_line.run("profiles", "list", "--profiles", str(profiles), **_LLM).stdout


def test_a_check_of_sound_profiles_succeeds(command_line: CommandLine, profiles: Path) -> None:
    assert command_line.run("profiles", "check", "--profiles", str(profiles), **_LLM).exit_code == 0


def test_a_check_says_where_a_broken_profile_is_wrong_and_fails(command_line: CommandLine, profiles: Path) -> None:
    broken = profiles / "broken.md"
    broken.write_text(_BAD)
    result = command_line.run("profiles", "check", "--profiles", str(profiles), **_LLM)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{broken}:5: ")

    result = command_line.run("profiles", "check", "--profiles", str(profiles), "--json", **_LLM)
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)
    assert (problem["path"], problem["line"]) == (str(broken), 5)
    assert "max_depht" in problem["message"]


def test_a_check_names_fields_without_effect_and_succeeds(command_line: CommandLine, profiles: Path) -> None:
    warned = profiles / "warm.md"
    warned.write_text(_GOOD.replace("scribe", "warm").replace("tools:", "temperature: 0.2\ntools:"))
    result = command_line.run("profiles", "check", "--profiles", str(profiles), "--json", **_LLM)
    assert result.exit_code == 0
    (problem,) = json.loads(result.stdout)
    assert (problem["path"], problem["line"], problem["severity"]) == (str(warned), 4, "warning")
    assert problem["message"].startswith("temperature ")


def test_a_running_gateway_is_asked_for_the_profiles_that_it_serves(served: Served) -> None:
    directory = served.gateway.data_dir / "profiles"
    path = directory / "asked.md"
    path.write_text(_GOOD.replace("scribe", "asked") + "a")
    broken = directory / "broken.md"
    broken.write_text(_BAD)
    try:
        # No LLM_MODEL is set here, so only the gateway can know of an LLM.
        listed = served.run("profiles", "list", "--json")
        assert {profile["name"]: profile["llm"] for profile in json.loads(listed.stdout)}["asked"] == "openai/scripted"
        assert f"As served by {served.gateway.base_url}." in listed.stderr
        checked = served.run("profiles", "check", "--json")
        assert checked.exit_code == 1
        assert [(each["path"], each["severity"]) for each in json.loads(checked.stdout)] == [(str(broken), "error")]
        examined = json.loads(served.run("doctor", "--json").stdout)
    finally:
        path.unlink()
        broken.unlink()
    [finding] = [finding["detail"] for finding in examined if finding["what"] == "profiles"]
    assert finding.endswith(f"openhands_default; as served by {served.gateway.base_url}")


@pytest.mark.parametrize("problem", ["other directories", "other settings", "wrong key", "no gateway"])
def test_profiles_are_read_here_if_no_gateway_can_answer_for_them(served: Served, profiles: Path, problem: str) -> None:
    (profiles / "gateway.toml").touch()
    options = {"other directories": ["--profiles", str(profiles)], "other settings": ["--config", str(profiles / "gateway.toml")]}
    chosen = options.get(problem, [])
    environ = {"wrong key": {"A2A_API_KEY": "a2a_wrong"}, "no gateway": {"A2A_BASE_URL": "http://127.0.0.1:9/v1"}}.get(
        problem, {}
    )
    listed = served.run("profiles", "list", *chosen, "--json", **environ, LLM_MODEL="openai/gpt-4o", LLM_API_KEY="sk-not-used")
    assert {profile["llm"] for profile in json.loads(listed.stdout)} == {"openai/gpt-4o"}
    assert "As served by" not in listed.stderr
    assert ("are read here" in listed.stderr) == (not chosen)
