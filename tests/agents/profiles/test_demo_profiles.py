"""The profiles that ship with the gateway: they load, they fit together, and they are part of the package."""

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from a2a_gateway.agents.profiles.catalogue import ProfileCatalog
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.runs.model import Profile
from a2a_gateway.settings import Settings
from tests.agents.profiles.place import Place


@pytest.fixture
def demo(place: Place) -> Iterator[ProfileCatalog]:
    environment = LLMEnvironment.read({"OH_PERSISTENCE_DIR": str(place.openhands), **place.environ})
    with as_file(files("a2a_gateway") / "demo_profiles") as directory:
        yield ProfileCatalog(Settings(profiles=(Path(directory),), data_dir=place.root), environment)


def test_the_four_specialists_load_without_a_problem(demo: ProfileCatalog) -> None:
    assert list(demo.problems()) == []
    assert {profile.name: profile.tools for profile in demo.list() if profile.name != "default"} == {
        "lead": ("delegate", "file_editor", "task_tracker"),
        "researcher": ("grep", "glob", "file_editor"),
        "coder": ("terminal", "file_editor", "grep", "glob", "task_tracker", "delegate"),
        "reviewer": ("terminal", "file_editor", "grep", "glob"),
    }


def test_whom_they_may_call_exists_and_costs_less_than_they_may_spend(demo: ProfileCatalog) -> None:
    served = {profile.model: profile for profile in demo.list()}
    lead = demo.get("lead")

    assert lead.policy.allowed_agents == frozenset({f"openhands_{name}" for name in ("lead", "researcher", "coder", "reviewer")})
    for profile in served.values():
        callees = (profile.policy.allowed_agents or frozenset()) - {profile.model}
        assert callees <= served.keys()
        assert all(budget(served[callee]) < budget(profile) for callee in callees)


def test_each_has_a_prompt_and_a_description_that_a_caller_can_choose_by(demo: ProfileCatalog) -> None:
    for name in ("lead", "researcher", "coder", "reviewer"):
        recipe = demo.recipe(name)
        assert len(recipe.system_suffix or "") > 500
        assert 80 < len(recipe.profile.description) < 300


def budget(profile: Profile) -> int:
    assert profile.policy.budget_micro_usd is not None
    return profile.policy.budget_micro_usd
