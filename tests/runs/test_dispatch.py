"""Sites: a model's site has its profiles, its runner, its directories and its processes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.dispatch import Sites
from a2a_gateway.runs.events import Finished, RunEnded
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import AdmittedRun, Profile, ProfileProblem, RunId
from a2a_gateway.runs.site import Site
from a2a_gateway.testing.scripted_runner import ScriptedRunner
from delegate_tool.protocol.context import DelegationBinding, Narration
from tests.wire.samples import RECORD

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class OneProfile:
    """A catalogue of one agent."""

    name: str

    def get(self, model: str) -> Profile:
        return Profile(self.name, "Does it.", "test", "none")

    def list(self) -> Sequence[Profile]:
        return [self.get("")]

    def problems(self) -> Sequence[ProfileProblem]:
        return [ProfileProblem(self.name, "is alone", is_warning=True)]


@dataclass(frozen=True)
class Processes:
    """The processes of one run, with one socket."""

    inode: int
    run_id: RunId
    exist: bool = True

    def run_with_socket(self, inode: int, uid: int) -> RunId | None:
        return self.run_id if inode == self.inode else None


def a_site(name: str, **parts: Any) -> Site:
    runner = ScriptedRunner(lambda _: [RunEnded(Finished(name))])
    return Site(name, lambda model: model == f"openhands_{name}", OneProfile(name), runner, **parts)


def a_run(model: str) -> AdmittedRun:
    binding = DelegationBinding("http://gateway.test/v1", "token", "run", model)
    record = replace(RECORD, agent=model)
    return AdmittedRun(record, "", (), Sampling(), None, Narration.LIVE, "", 30.0, binding=binding)


NEAR, FAR = a_site("near"), a_site("far", gateway_url="http://outside.test/v1")
SITES = Sites([NEAR, FAR])


def admitted_at(site: Site) -> list[AdmittedRun]:
    assert isinstance(site.runner, ScriptedRunner)
    return site.runner.admitted


async def test_a_run_goes_to_the_site_of_its_model_with_the_url_that_is_known_there() -> None:
    for name, url in (("near", "http://gateway.test/v1"), ("far", "http://outside.test/v1")):
        run: Any = SITES.run(a_run(f"openhands_{name}"), meter=None)  # type: ignore[arg-type]  # the script spends nothing
        assert [event async for event in run] == [RunEnded(Finished(name))]
        [admitted] = admitted_at(SITES.of(f"openhands_{name}"))
        assert admitted.binding is not None
        assert admitted.binding.base_url == url


def test_the_agents_and_the_problems_of_all_sites_are_listed() -> None:
    assert [profile.model for profile in SITES.list()] == ["openhands_near", "openhands_far"]
    assert [problem.path for problem in SITES.problems()] == ["near", "far"]
    assert SITES.get("openhands_far").name == "far"


def test_a_model_of_no_site_is_not_found_and_has_no_workspace() -> None:
    with pytest.raises(ModelNotFound):
        SITES.get("openhands_other")
    assert SITES.workspaces_of("openhands_other") is None


def test_a_process_belongs_to_the_run_of_whichever_site_knows_it() -> None:
    sites = Sites(
        [
            NEAR,
            a_site("idle", processes=Processes(1, RunId("none"), exist=False)),
            a_site("one", processes=Processes(1, RunId("run-1"))),
            a_site("two", processes=Processes(2, RunId("run-2"))),
        ]
    )
    assert sites.exist
    assert not SITES.exist
    assert [sites.run_with_socket(inode, 0) for inode in (1, 2, 3)] == ["run-1", "run-2", None]
