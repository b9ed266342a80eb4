"""`a2a-gateway profiles init`: what it writes can be used as it is, and nothing is overwritten."""

import json
import re
from pathlib import Path

import pytest

from a2a_gateway.agents.profiles.a2a_block import GATEWAY_SETTINGS
from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.settings import Settings
from tests.cli.conftest import CommandLine

_TEAM = ["lead", "researcher", "coder", "reviewer"]


def catalog_of(directory: Path) -> ProfileCatalog:
    environ = {"LLM_MODEL": "openai/gpt-4o", "LLM_API_KEY": "sk-not-used", "OH_PERSISTENCE_DIR": str(directory / "openhands")}
    environ |= {"MCP_WIKI_TOKEN": "wiki-credential"}
    return ProfileCatalog(Settings(profiles=(directory,), data_dir=directory / "data"), LLMEnvironment.read(environ))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "new" / "profiles"


@pytest.mark.parametrize("name", ["lead", "coder", "reviewer", "scribe", "1.5", "true"])
def test_a_new_profile_passes_the_check_as_it_is(command_line: CommandLine, directory: Path, name: str) -> None:
    [path] = command_line.run_json("profiles", "init", name, "--dir", str(directory))
    assert path == str(directory / f"{name}.md")
    catalog = catalog_of(directory)
    assert catalog.problems() == ()
    assert catalog.get(name).source == path


def test_without_a_name_a_team_is_written_that_works_together(command_line: CommandLine, directory: Path) -> None:
    written = command_line.run_json("profiles", "init", "--dir", str(directory))
    assert written == [str(directory / f"{name}.md") for name in _TEAM]
    catalog = catalog_of(directory)
    assert catalog.problems() == ()
    assert catalog.get("lead").policy.allowed_agents == frozenset(f"openhands_{name}" for name in _TEAM)


def test_a_profile_begins_with_the_one_that_is_named(command_line: CommandLine, directory: Path) -> None:
    command_line.run_json("profiles", "init", "critic", "--from", "reviewer", "--dir", str(directory))
    recipe = catalog_of(directory).recipe("critic")
    assert recipe.profile.tools == ("terminal", "file_editor", "grep", "glob")
    assert (recipe.system_suffix or "").startswith("You are a reviewer.")


def test_each_comment_stands_above_a_field_that_there_is(command_line: CommandLine, directory: Path) -> None:
    [path] = command_line.run_json("profiles", "init", "lead", "--dir", str(directory))
    text = Path(path).read_text()
    assert "  # allowed_agents: [researcher, coder, reviewer, self]" in text
    text = text.replace("allowed_agents: [researcher, coder, reviewer, self]", "allowed_agents: [self]")
    # Each line that is only a proposal becomes a field.
    Path(path).write_text(re.sub(r"^( *)# ((?:  )?[a-z_]+:.*)$", r"\1\2", text, flags=re.MULTILINE))
    catalog = catalog_of(directory)
    assert catalog.problems() == ()
    assert catalog.get("lead").mcp_servers == ("wiki",)
    shown = set(re.findall(r"^  (?:# )?(\w+): ", text, re.MULTILINE))
    assert {"budget_usd", "max_depth", "max_turns", "timeout_s", "allowed_agents", "workspace"} <= shown & GATEWAY_SETTINGS


def test_nothing_is_overwritten(command_line: CommandLine, directory: Path) -> None:
    directory.mkdir(parents=True)
    mine = directory / "coder.md"
    mine.write_text("---\nname: coder\n---\nMine.\n")
    assert command_line.run("profiles", "init", "coder", "--dir", str(directory)).exit_code == 2
    result = command_line.run("profiles", "init", "--dir", str(directory), "--json")
    assert [Path(path).stem for path in json.loads(result.stdout)] == ["lead", "researcher", "reviewer"]
    assert f"{mine} exists already" in result.stderr
    assert mine.read_text().endswith("Mine.\n")


@pytest.mark.parametrize("name", ["../up", "self", "README", "a b", ".hidden", "x" * 65, ""])
def test_a_name_that_no_agent_can_have_is_refused(command_line: CommandLine, directory: Path, name: str) -> None:
    assert command_line.run("profiles", "init", name, "--dir", str(directory)).exit_code == 2
    assert not directory.exists()


def test_a_template_without_a_name_is_refused(command_line: CommandLine, directory: Path) -> None:
    assert command_line.run("profiles", "init", "--from", "coder", "--dir", str(directory)).exit_code == 2
    assert not directory.exists()
