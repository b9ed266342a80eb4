"""What a catalogue warns of, although the profile is served: other profiles, directories, the key of its LLM."""

from pathlib import Path

import pytest

from a2a_gateway.runs.model import ProfileProblem
from tests.agents.profiles.place import Place


def warning(path: Path | str, message: str, line: int | None) -> ProfileProblem:
    return ProfileProblem(str(path), message, line, is_warning=True)


def test_an_allowed_agent_that_does_not_exist_is_a_warning_with_the_likely_name(place: Place) -> None:
    place.write("researcher.md", "---\nname: researcher\n---\n")
    path = place.write(
        "lead.md", "---\nname: lead\na2a:\n  allowed_agents: [reseracher, openhands_zzz, elsewhere/openhands_x, self]\n---\n"
    )
    catalog = place.open()
    assert catalog.problems() == (
        warning(path, "there is no agent 'reseracher', which it may call (did you mean researcher?)", 4),
        warning(path, "there is no agent 'zzz', which it may call", 4),
    )
    assert catalog.get("lead").may_delegate


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("allowed_agents: []", "its tool delegate is of no use: allowed_agents is empty"),
        ("max_depth: 0", "its tool delegate is of no use: max_depth is 0"),
    ],
)
def test_an_agent_that_may_delegate_to_no_agent_is_a_warning(place: Place, block: str, message: str) -> None:
    path = place.write("lead.md", f"---\nname: lead\ntools: [delegate]\na2a:\n  {block}\n---\n")
    place.write("alone.md", f"---\nname: alone\ntools: [terminal]\na2a:\n  {block}\n---\n")
    assert place.open().problems() == (warning(path, message, 5),)


def test_a_workspace_that_does_not_exist_is_a_warning_until_it_does(place: Place) -> None:
    path = place.write("p.md", "---\nname: p\na2a:\n  workspace: ../site\n---\n")
    site = place.root / "site"
    catalog = place.open()
    assert catalog.problems() == (warning(path, f"the workspace {site} does not exist; the first run makes an empty one", 4),)
    site.mkdir()
    assert catalog.problems() == ()


def test_an_llm_without_its_key_is_a_warning_that_names_the_variable(bare_place: Place) -> None:
    path = bare_place.write("p.md", "---\nname: p\nmodel: anthropic/claude-sonnet-4-5\n---\n")
    remedy = "set ANTHROPIC_API_KEY, or LLM_API_KEY if LLM_MODEL is of the same provider"
    assert bare_place.open().problems() == (warning(path, f"anthropic/claude-sonnet-4-5 has no API key: {remedy}", 3),)
    assert bare_place.open({"ANTHROPIC_API_KEY": "sk-own"}).problems() == ()


@pytest.mark.parametrize(
    "environ",
    [
        {"LLM_MODEL": "openai/own", "LLM_BASE_URL": "http://127.0.0.1:8000/v1"},
        {"LLM_MODEL": "lm_studio/own", "LM_STUDIO_API_BASE": "http://10.0.0.1:1234/v1"},
        {"LLM_MODEL": "hosted_vllm/own", "LLM_BASE_URL": "http://10.0.0.1:8000/v1"},
    ],
)
def test_an_llm_that_needs_no_key_is_no_warning(bare_place: Place, environ: dict[str, str]) -> None:
    assert bare_place.open(environ).problems() == ()


def test_the_environments_llm_without_a_key_is_one_warning_for_all_that_inherit_it(bare_place: Place) -> None:
    bare_place.write("p.md", "---\nname: p\n---\n")
    [problem] = bare_place.open({"LLM_MODEL": "gpt-4o"}).problems()
    assert (problem.path, problem.is_warning) == ("LLM_MODEL", True)
    assert "OPENAI_API_KEY" in problem.message


def test_a_broken_definition_that_hides_a_working_one_names_it(place: Place) -> None:
    broken = place.write("p.md", "---\ndescription: d\nname: p\ntools: [nonsense]\n---\n")
    hidden = place.write("p.md", "---\nname: p\n---\n", directory=place.data_profiles)
    problems = place.open().problems()
    assert problems[-1] == warning(broken, f"the working definition of 'p' in {hidden} is hidden by this broken one", 3)
    assert [problem.is_warning for problem in problems] == [False, True]
