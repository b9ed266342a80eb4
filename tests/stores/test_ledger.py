"""The ledger: which runs it records, and what it answers about them. On SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.model import (
    RunId,
    RunState,
)
from tests.stores.ledger_bench import NOW, Bench
from tests.stores.quotes import FREE

pytestmark = pytest.mark.anyio


async def test_a_run_is_recorded_as_it_was_admitted(bench: Bench) -> None:
    opened = await bench.open("root", max_depth=2, budget_micro_usd=700, allowed_agents=frozenset({"openhands_a", "openhands_b"}))
    assert opened.state is RunState.QUEUED
    assert await bench.store.ledger.get_run(RunId("root")) == opened
    bench.clock.at += 3
    started = await bench.store.ledger.start_run(RunId("root"))
    assert started == replace(opened, state=RunState.RUNNING, started_at=NOW + 3)


async def test_a_run_that_has_nothing_to_wait_for_is_recorded_as_running(bench: Bench) -> None:
    opened = await bench.propose("root", starts=True)
    assert (opened.state, opened.started_at) == (RunState.RUNNING, NOW)
    assert await bench.store.ledger.get_run(RunId("root")) == opened


async def test_unknown_runs_are_nothing(bench: Bench) -> None:
    ledger = bench.store.ledger
    assert await ledger.get_run(RunId("missing")) is None
    assert await ledger.summary(RunId("missing")) is None
    assert await ledger.subtree(RunId("missing")) == []
    for call in (
        ledger.start_run(RunId("missing")),
        ledger.reserve(RunId("missing"), FREE),
        ledger.close_run(RunId("missing"), RunState.FAILED, stop_reason="x"),
    ):
        with pytest.raises(GatewayError) as refusal:
            await call
        assert refusal.value.code == "run_not_found"


async def test_a_token_of_a_run_that_is_not_known_opens_nothing(bench: Bench) -> None:
    with pytest.raises(GatewayError) as refusal:
        await bench.open("child", "missing")
    assert refusal.value.code == "run_token_revoked"


async def test_a_deadline_stops_the_next_call(bench: Bench) -> None:
    run = await bench.running("root", timeout_s=10.0)
    bench.clock.at = run.deadline_at
    with pytest.raises(GatewayError) as refusal:
        await bench.store.ledger.reserve(RunId("root"), FREE)
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


async def test_runs_are_found_by_the_beginning_of_their_id_at_any_depth_and_of_one_key(bench: Bench) -> None:
    other = replace(bench, key=(await bench.store.keys.create_key("other"))[0])
    first, second, third, last = (f"{start}-516f-4f0e-8d53-1c8f7f3f9b02" for start in ("abcd0", "abcdf", "abce0", "abcc9"))
    for step, (owner, run_id, parent_id) in enumerate(((bench, first, None), (bench, second, first), (bench, third, None))):
        bench.clock.at = NOW + step
        await owner.open(run_id, parent_id)
    await other.open(last, None)
    ledger = bench.store.ledger
    assert [run.id for run in await ledger.find_runs(bench.key.id, "abcd", 10)] == [second, first]
    assert [run.id for run in await ledger.find_runs(bench.key.id, first[:8], 10)] == [first]
    assert [run.id for run in await ledger.find_runs(bench.key.id, "abcd", 1)] == [second]
    assert await ledger.find_runs(bench.key.id, "abcc", 10) == []
    assert [run.id for run in await ledger.find_runs(other.key.id, "abcc", 10)] == [last]


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


async def test_the_runs_directly_below_a_run_are_listed_oldest_first_up_to_a_bound(bench: Bench) -> None:
    await bench.running("root")
    for name in ("first", "second", "third"):
        await bench.running(name, "root")
        bench.clock.at += 1
    await bench.running("grandchild", "first")
    children = [await bench.store.ledger.list_children(RunId("root"), limit) for limit in (2, 9)]
    assert [[child.id for child in listed] for listed in children] == [["first", "second"], ["first", "second", "third"]]
