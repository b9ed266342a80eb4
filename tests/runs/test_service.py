"""The run service on a real store, with a scripted runner: every ending is told, is recorded, and leaves nothing."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from a2a_gateway.agents.workspaces import Workspaces
from a2a_gateway.errors import BudgetExceeded, GatewayError, LLMUnavailable, ModelNotFound
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    RunEnded,
    RunEvent,
    RunFinished,
    RunStarted,
)
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import AdmittedRun, KeyRecord, LimitPolicy, Limits, Profile, ProfileProblem, RunRequest, RunState
from a2a_gateway.runs.place import Places
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.service import RunService, ServicePolicy
from a2a_gateway.server.clock import SystemClock
from a2a_gateway.server.tokens import JwtRunTokens
from a2a_gateway.stores import Store, open_store, sqlite_url
from a2a_gateway.testing.scripted_runner import Part, ScriptedRunner, Spend, Until
from delegate_tool.context import DelegationContext, OnDisconnect

pytestmark = pytest.mark.anyio

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

    async def start(self, task: str = "task", parent: LiveRun | None = None, **context: object) -> LiveRun:
        asked = DelegationContext(**context)  # type: ignore[arg-type]  # fields of DelegationContext
        request = RunRequest("openhands_a", (UserMessage((TextPart(task),)),), asked)
        return (await self.service.start(request, Caller(self.key, parent.record if parent else None))).live

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
    script: Callable[[AdmittedRun], Sequence[Part]],
    *,
    slots: int = 10,
    max_breadth: int = 5,
    ttl_s: float = 0,
    grace_s: float = 0,
) -> AsyncIterator[Bench]:
    clock, live_runs, runner = SystemClock(), LiveRuns(), ScriptedRunner(script)
    async with open_store(sqlite_url(tmp_path / "gateway.db"), clock) as store:
        key, _ = await store.keys.create_key("laptop", LimitPolicy())
        places = Places(store.conversations, Workspaces(tmp_path / "workspaces"), live_runs, clock, ttl_s)
        policy = ServicePolicy(
            "here",
            "http://here.invalid/v1",
            Limits(max_breadth=max_breadth),
            disconnect_grace_s=grace_s,
            drain_s=0,
            retry_store_after_s=0.01,
        )
        tokens, capacity = JwtRunTokens("here"), Capacity(slots, 5)
        async with RunService(store.ledger, live_runs, places, OneProfile(), runner, tokens, capacity, clock, policy) as service:
            yield Bench(service, store, key, runner, tmp_path / "workspaces", tmp_path / "gateway.db")


def by_task(**scripts: Sequence[Part]) -> Callable[[AdmittedRun], Sequence[Part]]:
    """Choose a script by the task of a run."""

    def script(run: AdmittedRun) -> Sequence[Part]:
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


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # what is waited for has no event of its own
        await asyncio.sleep(0)


def finished(events: Sequence[RunEvent]) -> RunFinished:
    end = events[-1]
    assert isinstance(end, RunFinished)
    return end


_MONEY, _LLM = BudgetExceeded("spent"), LLMUnavailable("down")


@pytest.mark.parametrize(
    ("last", "recorded"),
    [
        (DONE, (RunState.FINISHED, "finished", None)),
        (RunEnded(Limited("half", "max_turns", _MONEY)), (RunState.LIMITED, "max_turns", None)),
        (RunEnded(Limited("", "budget_exceeded", _MONEY)), (RunState.FAILED, "budget_exceeded", "budget_exceeded")),
        (RunEnded(Failed(_LLM)), (RunState.FAILED, "llm_unavailable", "llm_unavailable")),
        (RunEnded(Cancelled("half")), (RunState.CANCELLED, "cancelled", "run_cancelled")),
        (_LLM, (RunState.FAILED, "llm_unavailable", "llm_unavailable")),
        (RuntimeError("a fault of ours"), (RunState.FAILED, "agent_error", "agent_error")),
        (ContentDelta("and nothing more"), (RunState.FAILED, "agent_error", "agent_error")),
    ],
    ids=["finished", "limited", "limited-mute", "failed", "cancelled", "error", "fault", "no-outcome"],
)
async def test_every_ending_is_told_recorded_and_leaves_nothing(
    tmp_path: Path, last: Part, recorded: tuple[RunState, str, str | None]
) -> None:
    async with bench_of(tmp_path, lambda _: [ContentDelta("well"), Spend(7), last]) as bench:
        live = await bench.start()
        events = await follow(live)
        record = finished(events).summary.record
        assert [type(event) for event in events[:2]] == [RunStarted, ContentDelta]
        assert sum(isinstance(event, RunFinished) for event in events) == 1
        assert (record.state, record.stop_reason, record.error_code, record.cost_tree_micro_usd) == (*recorded, 7)
        assert await bench.store.ledger.get_run(live.record.id) == record
        assert bench.leftovers == NOTHING


async def test_a_run_that_continues_no_conversation_fails_before_it_begins(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        live = await bench.start(conversation_id="5cbea1a0-51b3-4a8a-8b2c-111111111111")
        (end,) = await follow(live)
        assert isinstance(end, RunFinished)
        assert isinstance(end.outcome, Failed)
        assert end.outcome.error.code == "conversation_not_found"
        assert bench.leftovers == NOTHING


async def test_a_run_whose_time_is_over_before_it_begins_says_so(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        end = finished(await follow(await bench.start(timeout_s=1e-9)))
        assert isinstance(end.outcome, Failed)
        assert end.outcome.error.code == "deadline_exceeded"
        assert bench.leftovers == NOTHING


async def test_cancelling_twice_and_leaving_at_once_ends_a_run_once(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(never), DONE]) as bench:
        live = await bench.start()
        with live.listen():
            await until(lambda: bool(bench.runner.running))
            first = asyncio.create_task(bench.service.cancel(live.record.id))
            await asyncio.sleep(0)
        await asyncio.gather(first, bench.service.cancel(live.record.id))
        assert sum(isinstance(event, RunFinished) for event in live.events) == 1
        assert await bench.state(live) is RunState.CANCELLED
        assert bench.leftovers == NOTHING


async def test_a_run_cancelled_while_it_waits_for_its_conversation_never_begins(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), RunEnded(Finished("done"), "history")], ttl_s=60) as bench:
        first = await bench.start()
        await until(lambda: len(bench.runner.admitted) == 1)
        second = await bench.start(conversation_id=first.record.conversation_id)
        await bench.service.cancel(second.record.id)
        gate.set()
        await follow(first)
        assert isinstance(finished(second.events).outcome, Cancelled)
        assert [run.record.id for run in bench.runner.admitted] == [first.record.id]
        assert bench.leftovers["leases"] == set()


async def test_children_end_before_the_end_of_their_parent_is_told(tmp_path: Path) -> None:
    never, gate = asyncio.Event(), asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(gate), DONE], part=[Spend(5), Until(never), DONE])) as bench:
        lead = await bench.start("lead")
        parts = [await bench.start("part", lead) for _ in range(2)]
        await until(lambda: len(bench.runner.running) == 3)
        gate.set()
        with lead.listen() as listener:
            while not lead.finished:
                await listener.take()
            states = [await bench.state(live) for live in parts]
        assert states == [RunState.CANCELLED] * 2
        assert finished(lead.events).summary.record.cost_tree_micro_usd == 10
        await lead.closed.wait()
        assert bench.leftovers == NOTHING


async def test_a_child_that_comes_while_its_parent_is_being_stopped_does_not_begin(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(gate, stubborn=True), DONE], part=[DONE])) as bench:
        lead = await bench.start("lead")
        await until(lambda: bool(bench.runner.running))
        cancelling = asyncio.create_task(bench.service.cancel(lead.record.id))
        await until(lambda: lead.cancelled.is_set())
        late = await bench.start("part", lead)
        assert isinstance(finished(await follow(late)).outcome, Cancelled)
        gate.set()
        await cancelling
        assert len(bench.runner.admitted) == 1
        assert bench.leftovers == NOTHING


async def test_an_abandoned_run_is_cancelled_and_one_that_shall_continue_is_not(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=0.01) as bench:
        left, kept = await bench.start(), await bench.start(on_disconnect=OnDisconnect.CONTINUE)
        for live in (left, kept):
            with live.listen():
                pass
        await left.closed.wait()
        gate.set()
        await kept.closed.wait()
        assert (await bench.state(left), await bench.state(kept)) == (RunState.CANCELLED, RunState.FINISHED)


async def test_a_run_to_which_somebody_comes_back_in_time_goes_on(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=0.01) as bench:
        other, live = await bench.start(), await bench.start()
        with live.listen():
            pass
        with live.listen() as listener:
            with other.listen():
                pass
            await other.closed.wait()  # left after `live` was, so the grace of `live` is over, too
            gate.set()
            while not live.finished:
                await listener.take()
        assert isinstance(finished(live.events).outcome, Finished)


async def test_equal_requests_are_runs_of_their_own_until_the_client_of_one_has_left(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=60) as bench:
        request = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), fingerprint="the-same")
        caller = Caller(bench.key)
        first, second = [(await bench.service.start(request, caller)).live for _ in range(2)]  # nobody listens to either yet
        assert first is not second
        with second.listen():
            third = (await bench.service.start(request, caller)).live
        assert third is not second
        with third.listen():
            pass
        again = await bench.service.start(request, caller)
        assert (again.live, again.is_replay) == (third, True)
        gate.set()
        for live in (first, second, third):
            await live.closed.wait()


async def test_a_run_that_ends_before_its_client_listens_is_no_repeat_of_another(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        request = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), fingerprint="the-same")
        first = (await bench.service.start(request, Caller(bench.key))).live
        await first.closed.wait()
        assert (await bench.service.start(request, Caller(bench.key))).live is not first


@pytest.mark.parametrize("begun", [True, False], ids=["in-the-queue", "not-begun"])
async def test_a_drain_tells_those_who_wait_that_the_gateway_shuts_down(tmp_path: Path, begun: bool) -> None:
    never = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(never), DONE], slots=1) as bench:
        live = await bench.start()
        waiting = asyncio.create_task(bench.start())
        await asyncio.sleep(0)
        if begun:
            await until(lambda: bench.service.capacity.waiting == 1)
        await bench.service.drain(0)
        with pytest.raises(GatewayError) as refused:
            await waiting
        assert refused.value.code == "not_ready"
        assert await bench.state(live) is RunState.CANCELLED
        assert bench.leftovers == NOTHING


async def test_a_caller_who_leaves_while_it_waits_for_a_sibling_leaves_nothing(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(gate), DONE], part=[Until(gate), DONE]), max_breadth=1) as bench:
        lead = await bench.start("lead")
        await bench.start("part", lead)
        waiting = asyncio.create_task(bench.start("part", lead))
        await until(lambda: bench.service.capacity.working == 2)
        waiting.cancel()
        await asyncio.wait({waiting})
        await until(lambda: bench.service.capacity.working == 1)
        gate.set()
        await lead.closed.wait()
        assert len(await bench.store.ledger.subtree(lead.record.id)) == 2
        assert bench.leftovers == NOTHING


async def test_more_children_than_may_live_at_once_run_one_after_the_other(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(gate), DONE], part=[DONE]), max_breadth=1) as bench:
        lead = await bench.start("lead")

        async def part() -> RunFinished:
            return finished(await follow(await bench.start("part", lead)))

        async with asyncio.timeout(20):
            ends = await asyncio.gather(*(part() for _ in range(20)))
        assert [end.summary.record.state for end in ends] == [RunState.FINISHED] * 20
        gate.set()
        await lead.closed.wait()
        assert bench.leftovers == NOTHING


async def test_a_run_that_the_database_will_not_let_end_is_told_at_once_and_recorded_later(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF ended_at ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        end = finished(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert (end.outcome.error.code, end.summary.record.cost_complete) == ("store_unavailable", False)
        assert bench.leftovers == NOTHING
        assert await bench.state(live) is RunState.RUNNING
        bench.change("DROP TRIGGER stuck")
        while await bench.state(live) is RunState.RUNNING:
            pass
        assert await bench.state(live) is RunState.FINISHED


async def test_money_that_the_database_did_not_book_is_booked_later(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), Spend(9), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF turns ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        end = finished(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert end.outcome.error.code == "store_unavailable"
        bench.change("DROP TRIGGER stuck")
        while not (record := await bench.store.ledger.get_run(live.record.id)) or not record.turns:
            pass
        assert (record.cost_self_micro_usd, record.state) == (9, RunState.FAILED)


async def test_a_run_that_the_ledger_no_longer_knows_still_ends(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("DELETE FROM runs")
        gate.set()
        async with asyncio.timeout(20):
            end = finished(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert bench.leftovers == NOTHING
