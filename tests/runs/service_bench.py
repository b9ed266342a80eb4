"""A run service on a real store, with a scripted runner, and short ways to start runs and to follow them."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.host.workspaces import WorkspaceDirectories
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.conversation_queue import ConversationQueue
from a2a_gateway.runs.events import Finished, RunEnded, RunEvent, RunFinished
from a2a_gateway.runs.leases import Leases
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import AdmittedRun, KeyRecord, Profile, ProfileProblem, RunRequest, RunState
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.service import RunService
from a2a_gateway.runs.service_policy import ServicePolicy
from a2a_gateway.server.tokens import JwtRunTokens
from a2a_gateway.stores import Store, open_store, sqlite_url
from a2a_gateway.testing.scripted_runner import RunStep, ScriptedRunner
from delegate_tool.protocol.context import DelegationContext
from delegate_tool.protocol.limits import LimitPolicy

DONE = RunEnded(Finished("done"))


class OneProfile:
    """A catalogue of one agent."""

    profile = Profile("a", "Does it.", "test", "openai/none", may_delegate=True)

    def get(self, model: str) -> Profile:
        if model != self.profile.model:
            raise ModelNotFound("There is none.", param="model")
        return self.profile

    def list(self) -> Sequence[Profile]:
        return [self.profile]

    def problems(self) -> Sequence[ProfileProblem]:
        return []


@dataclass(frozen=True)
class Bench:
    """A service with all that it stands on."""

    service: RunService
    store: Store
    key: KeyRecord
    runner: ScriptedRunner
    workspaces: Path
    database: Path

    def request(self, task: str, **context: object) -> tuple[RunRequest, Caller]:
        asked = DelegationContext(**context)  # type: ignore[arg-type]  # fields of DelegationContext
        return RunRequest("openhands_a", (UserMessage((TextPart(task),)),), asked), Caller(self.key)

    async def start(self, task: str = "task", parent: LiveRun | None = None, **context: object) -> LiveRun:
        request, caller = self.request(task, **context)
        return (await self.service.start(request, replace(caller, run=parent.record if parent else None))).live

    def change(self, sql: str) -> None:
        """Change the database behind the service's back."""
        with sqlite3.connect(self.database) as connection:
            connection.execute(sql)
        connection.close()

    async def state(self, live: LiveRun) -> RunState:
        record = await self.store.ledger.get_run(live.record.id)
        assert record is not None
        return record.state

    @property
    def leftovers(self) -> dict[str, object]:
        """What must be empty when no run is under way."""
        return {
            "live": list(self.service.live_runs),
            "slots": self.service.capacity.working,
            "queue": self.service.capacity.waiting,
            "leases": set(self.store.conversations.leased),
            "runner": set(self.runner.running),
            "workspaces": [path.name for path in self.workspaces.glob("*")],
        }


NOTHING: dict[str, object] = {"live": [], "slots": 0, "queue": 0, "leases": set(), "runner": set(), "workspaces": []}


@asynccontextmanager
async def bench_of(
    tmp_path: Path,
    script: Callable[[AdmittedRun], Sequence[RunStep]],
    *,
    slots: int = 10,
    max_breadth: int = 5,
    ttl_s: float = 0,
    grace_s: float = 0,
    queue_timeout_s: float = 30,
    clock: SystemClock | None = None,
    turns: ConversationQueue | None = None,
    database_url: str | None = None,
    journal_bytes: int = 1024 * 1024,
) -> AsyncIterator[Bench]:
    clock, live_runs, runner = clock or SystemClock(), LiveRuns(), ScriptedRunner(script)
    async with open_store(database_url or sqlite_url(tmp_path / "gateway.db"), clock) as store:
        key, _ = await store.keys.create_key(f"laptop-{uuid4()}", LimitPolicy())
        workspaces = WorkspaceDirectories(tmp_path / "workspaces")
        leases = Leases(store.conversations, lambda _: workspaces, live_runs, clock, ttl_s, turns or ConversationQueue())
        policy = ServicePolicy(
            "here",
            "http://here.invalid/v1",
            Limits(max_breadth=max_breadth),
            queue_timeout_s=queue_timeout_s,
            disconnect_grace_s=grace_s,
            drain_s=0,
            retry_store_after_s=0.01,
            journal_bytes=journal_bytes,
        )
        tokens, capacity = JwtRunTokens("here"), Capacity(slots, 5)
        parts = (store.ledger, store.journals, live_runs, leases, OneProfile(), runner, tokens, capacity, clock, policy)
        async with RunService(*parts) as service:
            yield Bench(service, store, key, runner, tmp_path / "workspaces", tmp_path / "gateway.db")


def by_task(**scripts: Sequence[RunStep]) -> Callable[[AdmittedRun], Sequence[RunStep]]:
    """Choose a script by the task of a run."""

    def script(run: AdmittedRun) -> Sequence[RunStep]:
        (message,) = run.messages
        assert isinstance(message, UserMessage)
        (part,) = message.parts
        assert isinstance(part, TextPart)
        return scripts[part.text]

    return script


async def follow(live: LiveRun) -> list[RunEvent]:
    """Read a run to its end, and wait until nothing of it is left."""
    events: list[RunEvent] = []
    with live.listen() as listener:
        while not (events and isinstance(events[-1], RunFinished)):
            events += await listener.take()
    await live.closed.wait()
    return events


def end_of(events: Sequence[RunEvent]) -> RunFinished:
    end = events[-1]
    assert isinstance(end, RunFinished)
    return end
