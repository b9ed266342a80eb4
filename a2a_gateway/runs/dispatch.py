"""All agents that are served here, by model id: this gateway's own, and those of its peers. And the runners that execute them."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.events import RunnerEvent
from a2a_gateway.runs.model import MODEL_PREFIX, AdmittedRun, Profile, ProfileProblem, RunId
from a2a_gateway.runs.ports import Meter, Profiles, Runner


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Satisfies `ports.Profiles` over two others, of which the `own` one knows its profiles by name, without the prefix."""

    own: Profiles
    peers: Profiles

    def get(self, model: str) -> Profile:
        """See `Profiles.get`."""
        if model.startswith(MODEL_PREFIX):
            return self.own.get(model.removeprefix(MODEL_PREFIX))
        if "/" in model:
            return self.peers.get(model)
        raise ModelNotFound(f"There is no model {model[:200]!r}; models here are named {MODEL_PREFIX}<profile>.", param="model")

    def list(self) -> Sequence[Profile]:
        """See `Profiles.list`."""
        return [*self.own.list(), *self.peers.list()]

    def problems(self) -> Sequence[ProfileProblem]:
        """See `Profiles.problems`."""
        return [*self.own.problems(), *self.peers.problems()]


@dataclass(frozen=True, slots=True)
class Runners:
    """Satisfies `ports.Runner`: a run goes to the runner of whoever has its agent."""

    own: Runner
    peers: Runner

    def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """See `Runner.run`."""
        return (self.own if run.peer is None else self.peers).run(run, meter)

    async def cancel(self, run_id: RunId) -> None:
        """See `Runner.cancel`."""
        await self.own.cancel(run_id)
        await self.peers.cancel(run_id)
