"""The ledger on a real SQLite file: what each of its methods records and answers."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import AgentCost, RunSummary
from a2a_gateway.runs.model import ConversationId, KeyRecord, LimitPolicy, Limits, RunId, RunRecord, RunState, TokenUsage
from a2a_gateway.runs.ports import Hold, RunProposal
from a2a_gateway.stores import Store, open_store, sqlite_url

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0


@dataclass
class SteppedClock:
    at: float = NOW

    def now(self) -> float:
        return self.at


@dataclass(frozen=True)
class Bench:
    """An open store with a key in it."""

    store: Store
    clock: SteppedClock
    key: KeyRecord
    path: Path

    async def open(self, run_id: str, parent_id: str | None = None, agent: str = "openhands_a", **limits: object) -> RunRecord:
        return await self.store.ledger.open_run(
            RunProposal(
                id=RunId(run_id),
                parent_id=RunId(parent_id) if parent_id else None,
                key_id=self.key.id,
                agent=agent,
                task_hash=f"task of {run_id}",
                conversation_id=ConversationId(f"c-{run_id}"),
                defaults=Limits(),
                policies=(LimitPolicy(**limits),),  # type: ignore[arg-type]  # fields of LimitPolicy
            )
        )

    async def running(self, run_id: str, parent_id: str | None = None, agent: str = "openhands_a", **limits: object) -> RunRecord:
        await self.open(run_id, parent_id, agent, **limits)
        return await self.store.ledger.start_run(RunId(run_id))

    async def turn(self, run_id: str, usage: TokenUsage, cost: int | None) -> Hold:
        hold = await self.store.ledger.reserve(RunId(run_id))
        await self.store.ledger.settle(hold, usage, cost)
        return hold


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock, path = SteppedClock(), tmp_path / "gateway.db"
    async with open_store(sqlite_url(path), clock) as store:
        key, _ = await store.keys.create_key("laptop")
        yield Bench(store, clock, key, path)


async def test_a_run_is_recorded_as_it_was_admitted(bench: Bench) -> None:
    opened = await bench.open("root", max_depth=2, budget_micro_usd=700, allowed_agents=frozenset({"openhands_a", "openhands_b"}))
    assert opened.state is RunState.QUEUED
    assert await bench.store.ledger.get_run(RunId("root")) == opened
    bench.clock.at += 3
    started = await bench.store.ledger.start_run(RunId("root"))
    assert started == replace(opened, state=RunState.RUNNING, started_at=NOW + 3)


async def test_unknown_runs_are_nothing(bench: Bench) -> None:
    ledger = bench.store.ledger
    assert await ledger.get_run(RunId("nobody")) is None
    assert await ledger.summary(RunId("nobody")) is None
    assert await ledger.subtree(RunId("nobody")) == []
    for call in (
        ledger.start_run(RunId("nobody")),
        ledger.reserve(RunId("nobody")),
        ledger.close_run(RunId("nobody"), RunState.FAILED, stop_reason="x"),
    ):
        with pytest.raises(GatewayError) as refusal:
            await call
        assert refusal.value.code == "run_not_found"


async def test_a_token_of_a_run_that_is_not_known_opens_nothing(bench: Bench) -> None:
    with pytest.raises(GatewayError) as refusal:
        await bench.open("child", "nobody")
    assert refusal.value.code == "run_token_revoked"


async def test_a_turn_is_charged_to_its_run_and_to_all_above(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root")
    await bench.running("child", "root", "openhands_b", budget_micro_usd=5_000)
    await bench.running("grandchild", "child", "openhands_b")
    await bench.turn("root", TokenUsage(100, 10, 50, 5), 1_000)
    await bench.turn("child", TokenUsage(200, 20), 200)
    await bench.turn("grandchild", TokenUsage(300, 30, 0, 3), 30)
    await bench.turn("grandchild", TokenUsage(1, 1), 4)

    root, child, grandchild = await ledger.subtree(RunId("root"))
    assert [
        (run.id, run.cost_self_micro_usd, run.cost_tree_micro_usd, run.turns, run.descendants)
        for run in (root, child, grandchild)
    ] == [
        ("root", 1_000, 1_234, 1, 2),
        ("child", 200, 234, 1, 1),
        ("grandchild", 34, 34, 2, 0),
    ]
    assert grandchild.usage == TokenUsage(301, 31, 0, 3)
    assert await ledger.summary(RunId("root")) == RunSummary(
        root, (AgentCost("openhands_b", 2, 234),), TokenUsage(601, 61, 50, 8), 10_000_000 - 1_234
    )
    assert await ledger.summary(RunId("grandchild")) == RunSummary(grandchild, (), grandchild.usage, 5_000 - 234)
    key = await bench.store.keys.get_key(bench.key.id)
    assert key is not None
    assert key.spent_micro_usd == 1_234


async def test_settling_a_hold_twice_charges_once(bench: Bench) -> None:
    await bench.running("root")
    hold = await bench.turn("root", TokenUsage(1, 1), 7)
    await bench.store.ledger.settle(hold, TokenUsage(1, 1), 7)
    run = await bench.store.ledger.get_run(RunId("root"))
    assert run is not None
    assert (run.turns, run.usage, run.cost_tree_micro_usd) == (1, TokenUsage(1, 1), 7)


async def test_a_call_is_charged_also_when_its_run_has_ended_meanwhile(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root")
    await bench.running("child", "root")
    hold = await ledger.reserve(RunId("child"))
    for run_id in ("child", "root"):
        await ledger.close_run(RunId(run_id), RunState.CANCELLED, stop_reason="cancelled", error_code="run_cancelled")
    await ledger.settle(hold, TokenUsage(9, 9), 90)
    assert [(run.state, run.cost_tree_micro_usd) for run in await ledger.subtree(RunId("root"))] == [(RunState.CANCELLED, 90)] * 2


async def test_tokens_at_an_unknown_price_make_the_cost_of_all_above_incomplete(bench: Bench) -> None:
    for run_id, parent_id in (("root", None), ("a", "root"), ("b", "root")):
        await bench.running(run_id, parent_id)
    await bench.turn("a", TokenUsage(5, 5), None)
    await bench.turn("b", TokenUsage(), None)  # a call that failed before it used anything
    complete = {run.id: run.cost_complete for run in await bench.store.ledger.subtree(RunId("root"))}
    assert complete == {"root": False, "a": False, "b": True}


async def test_a_turn_cannot_give_money_back(bench: Bench) -> None:
    await bench.running("root")
    hold = await bench.store.ledger.reserve(RunId("root"))
    with pytest.raises(ValueError, match="less than nothing"):
        await bench.store.ledger.settle(hold, TokenUsage(1, 1), -1)


async def test_a_spent_budget_stops_the_run_and_its_descendants_before_their_next_call(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=100)
    await bench.running("child", "root")
    await bench.turn("child", TokenUsage(1, 1), 100)
    for run_id in ("root", "child"):
        with pytest.raises(GatewayError) as refusal:
            await bench.store.ledger.reserve(RunId(run_id))
        assert refusal.value.code == "budget_exceeded"
    with pytest.raises(GatewayError) as refusal:
        await bench.open("other", "root")
    assert refusal.value.code == "budget_exceeded"


async def test_a_keys_budget_is_shared_by_its_trees(bench: Bench) -> None:
    key, _ = await bench.store.keys.create_key("small", LimitPolicy(budget_micro_usd=50))
    small = replace(bench, key=key)
    await small.running("one")
    two = await small.running("two")
    assert two.limits.budget_micro_usd == 50
    await small.turn("one", TokenUsage(1, 1), 60)
    summary = await bench.store.ledger.summary(RunId("two"))
    assert summary is not None
    assert summary.remaining_micro_usd == 0
    with pytest.raises(GatewayError) as refusal:
        await bench.store.ledger.reserve(RunId("two"))
    assert refusal.value.code == "budget_exceeded"


async def test_a_deadline_stops_the_next_call(bench: Bench) -> None:
    run = await bench.running("root", timeout_s=10.0)
    bench.clock.at = run.deadline_at
    with pytest.raises(GatewayError) as refusal:
        await bench.store.ledger.reserve(RunId("root"))
    assert refusal.value.code == "deadline_exceeded"


async def test_a_run_ends_once(bench: Bench) -> None:
    ledger = bench.store.ledger
    started = await bench.running("root")
    bench.clock.at += 5
    first = await ledger.close_run(RunId("root"), RunState.FAILED, stop_reason="agent_error", error_code="agent_error")
    assert first.record == replace(
        started, state=RunState.FAILED, ended_at=NOW + 5, stop_reason="agent_error", error_code="agent_error"
    )
    bench.clock.at += 5
    assert await ledger.close_run(RunId("root"), RunState.FINISHED, stop_reason="finished") == first


async def test_a_run_that_never_started_cannot_have_finished(bench: Bench) -> None:
    opened = await bench.open("root")
    for state in (RunState.FINISHED, RunState.RUNNING):
        with pytest.raises(GatewayError) as refusal:
            await bench.store.ledger.close_run(RunId("root"), state, stop_reason="?")
        assert refusal.value.code == "internal_error"
    assert await bench.store.ledger.get_run(RunId("root")) == opened


async def test_a_run_starts_once_and_not_after_its_end(bench: Bench) -> None:
    await bench.running("root")
    with pytest.raises(GatewayError) as twice:
        await bench.store.ledger.start_run(RunId("root"))
    assert twice.value.code == "internal_error"
    await bench.store.ledger.close_run(RunId("root"), RunState.CANCELLED, stop_reason="cancelled")
    with pytest.raises(GatewayError) as late:
        await bench.store.ledger.start_run(RunId("root"))
    assert late.value.code == "run_cancelled"


async def test_a_child_is_charged_to_the_key_of_its_tree_whatever_the_proposal_says(bench: Bench) -> None:
    other = replace(bench, key=(await bench.store.keys.create_key("other"))[0])
    await bench.running("root")
    assert (await other.open("child", "root")).key_id == bench.key.id


async def test_a_child_that_ends_makes_room_for_a_sibling(bench: Bench) -> None:
    await bench.running("root", max_breadth=1)
    await bench.running("a", "root")
    with pytest.raises(GatewayError) as refusal:
        await bench.open("b", "root")
    assert (refusal.value.code, refusal.value.retryable) == ("delegation_breadth_exceeded", True)
    await bench.store.ledger.close_run(RunId("a"), RunState.FINISHED, stop_reason="finished")
    assert (await bench.open("b", "root")).depth == 1


async def test_a_refused_run_leaves_no_trace(bench: Bench) -> None:
    root = await bench.running("root", max_depth=0)
    with pytest.raises(GatewayError):
        await bench.open("child", "root")
    assert await bench.store.ledger.subtree(RunId("root")) == [root]


async def test_recent_runs_are_the_roots_newest_first(bench: Bench) -> None:
    other = replace(bench, key=(await bench.store.keys.create_key("other"))[0])
    for step, (owner, run_id, parent_id) in enumerate(
        ((bench, "one", None), (bench, "child", "one"), (other, "two", None), (bench, "three", None))
    ):
        bench.clock.at = NOW + step
        await owner.open(run_id, parent_id)
    ledger = bench.store.ledger
    assert [run.id for run in await ledger.recent_runs(None, 10)] == ["three", "two", "one"]
    assert [run.id for run in await ledger.recent_runs(bench.key.id, 10)] == ["three", "one"]
    assert [run.id for run in await ledger.recent_runs(None, 1)] == ["three"]


async def test_a_caller_who_leaves_while_reserving_leaves_no_call_open(bench: Bench) -> None:
    await bench.running("root")
    other_writer = sqlite3.connect(bench.path, isolation_level=None)
    other_writer.execute("BEGIN IMMEDIATE")
    reserving = asyncio.create_task(bench.store.ledger.reserve(RunId("root")))
    await asyncio.sleep(0)  # it has been handed to its thread, where it waits for the other writer
    reserving.cancel()
    other_writer.execute("ROLLBACK")
    other_writer.close()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    # An open call would make the cost of a lost run incomplete.
    assert await bench.store.ledger.mark_lost() == 1
    run = await bench.store.ledger.get_run(RunId("root"))
    assert run is not None
    assert (run.state, run.cost_complete) == (RunState.LOST, True)


async def test_runs_that_were_live_when_the_gateway_died_are_lost_and_open_calls_make_their_cost_incomplete(bench: Bench) -> None:
    ledger = bench.store.ledger
    for run_id, parent_id in (("root", None), ("calling", "root"), ("idle", "root")):
        await bench.running(run_id, parent_id)
    await bench.open("queued", "idle")
    await bench.running("ended")
    ended = (await ledger.close_run(RunId("ended"), RunState.FINISHED, stop_reason="finished")).record
    await ledger.reserve(RunId("calling"))
    bench.clock.at += 60

    assert await ledger.mark_lost() == 4
    lost = {run.id: (run.state, run.stop_reason, run.ended_at, run.cost_complete) for run in await ledger.subtree(RunId("root"))}
    fate = (RunState.LOST, "run_lost", NOW + 60)
    assert lost == {"root": (*fate, False), "calling": (*fate, False), "idle": (*fate, True), "queued": (*fate, True)}
    assert await ledger.get_run(RunId("ended")) == ended
    assert await ledger.mark_lost() == 0
