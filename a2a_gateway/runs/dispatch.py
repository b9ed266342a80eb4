"""Dispatch by site: find the site of a model id, and use its profiles, runner, directories and processes."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, replace

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.events import RunnerEvent
from a2a_gateway.runs.model import AdmittedRun, Profile, ProfileProblem, RunId
from a2a_gateway.runs.ports import Meter, Workspaces
from a2a_gateway.runs.site import Site


@dataclass(frozen=True, slots=True)
class Sites:
    """All sites of a gateway as one: satisfies `ports.Profiles`, `ports.Runner` and `site.AgentProcesses`."""

    sites: Sequence[Site]

    def of(self, model: str) -> Site:
        """Return the site that serves a model id.

        Raises:
            ModelNotFound: no site serves it.
        """
        site = next((site for site in self.sites if site.serves(model)), None)
        if site is None:
            raise ModelNotFound(f"No site serves the model {model[:200]!r}.", param="model")
        return site

    def get(self, model: str) -> Profile:
        """See `Profiles.get`."""
        return self.of(model).profiles.get(model)

    def list(self) -> Sequence[Profile]:
        """See `Profiles.list`."""
        return [profile for site in self.sites for profile in site.profiles.list()]

    def problems(self) -> Sequence[ProfileProblem]:
        """See `Profiles.problems`."""
        return [problem for site in self.sites for problem in site.profiles.problems()]

    def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """See `Runner.run`."""
        site = self.of(run.record.agent)
        return site.runner.run(_address(run, site), meter)

    async def cancel(self, run_id: RunId) -> None:
        """See `Runner.cancel`."""
        for site in self.sites:
            await site.runner.cancel(run_id)

    def workspaces_of(self, model: str) -> Workspaces | None:
        """Return where the tools of a model's agent work; None if that is elsewhere, or the model is not served any more."""
        return next((site.workspaces for site in self.sites if site.serves(model)), None)

    async def sweep(self, keep: Collection[str]) -> None:
        """Remove the working directories of all conversations but those to `keep`. Only while no run is live."""
        for site in self.sites:
            if site.workspaces is not None:
                await site.workspaces.sweep(keep)

    def mask(self, text: str) -> str:
        """Replace the credentials of all sites in a text."""
        for site in self.sites:
            text = site.mask(text)
        return text

    @property
    def exist(self) -> bool:
        """See `AgentProcesses.exist`."""
        return any(site.processes is not None and site.processes.exist for site in self.sites)

    def run_with_socket(self, inode: int, uid: int) -> RunId | None:
        """See `AgentProcesses.run_with_socket`."""
        owners = (site.processes for site in self.sites if site.processes is not None and site.processes.exist)
        found = (owner.run_with_socket(inode, uid) for owner in owners)
        return next((run_id for run_id in found if run_id is not None), None)


def _address(run: AdmittedRun, site: Site) -> AdmittedRun:
    """Give a run the URL under which its site reaches this gateway."""
    if site.gateway_url is None or run.binding is None:
        return run
    return replace(run, binding=replace(run.binding, base_url=site.gateway_url))
