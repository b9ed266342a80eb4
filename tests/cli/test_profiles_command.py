"""`a2a-gateway profiles`: what would be served, and what is wrong with the rest."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine

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
