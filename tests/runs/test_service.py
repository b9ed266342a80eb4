"""The run service on a real store, with a scripted runner: every ending is sent, recorded, and leaves nothing."""

import asyncio
from pathlib import Path

import pytest

from a2a_gateway.errors import AgentFailed, BudgetExceeded, GatewayError, LLMUnavailable
from a2a_gateway.runs.events import Cancelled, ContentDelta, Failed, Finished, Limited, RunEnded, RunFinished, RunStarted
from a2a_gateway.runs.model import RunState
from a2a_gateway.testing.scripted_runner import RunStep, Spend, Until
from tests.runs.service_bench import DONE, NOTHING, bench_of, by_task, end_of, follow
from tests.support.until import until

pytestmark = pytest.mark.anyio

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
    tmp_path: Path, last: RunStep, recorded: tuple[RunState, str, str | None]
) -> None:
    async with bench_of(tmp_path, lambda _: [ContentDelta("well"), Spend(7), last]) as bench:
        live = await bench.start()
        events = await follow(live)
        record = end_of(events).summary.record
        assert [type(event) for event in events[:2]] == [RunStarted, ContentDelta]
        assert sum(isinstance(event, RunFinished) for event in events) == 1
        assert (record.state, record.stop_reason, record.error_code, record.cost_tree_micro_usd) == (*recorded, 7)
        assert await bench.store.ledger.get_run(live.record.id) == record
        assert bench.leftovers == NOTHING


async def test_a_run_whose_outcome_cannot_be_recorded_ends_with_that_failure(tmp_path: Path) -> None:
    unencodable = RunEnded(Failed(AgentFailed("It failed.", details={"why": object()})))
    async with bench_of(tmp_path, lambda _: [unencodable]) as bench:
        live = await bench.start(idempotency_key="key")
        end = end_of(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert (end.outcome.error.code, end.outcome.error.details) == ("agent_error", {})
        assert await bench.state(live) is RunState.FAILED


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
        end = end_of(await follow(await bench.start(timeout_s=1e-9)))
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
        assert isinstance(end_of(second.events).outcome, Cancelled)
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
            while not lead.has_ended:
                await listener.take()
            states = [await bench.state(live) for live in parts]
        assert states == [RunState.CANCELLED] * 2
        assert end_of(lead.events).summary.record.cost_tree_micro_usd == 10
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
        assert isinstance(end_of(await follow(late)).outcome, Cancelled)
        gate.set()
        await cancelling
        assert len(bench.runner.admitted) == 1
        assert bench.leftovers == NOTHING


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
            return end_of(await follow(await bench.start("part", lead)))

        async with asyncio.timeout(20):
            ends = await asyncio.gather(*(part() for _ in range(20)))
        assert [end.summary.record.state for end in ends] == [RunState.FINISHED] * 20
        gate.set()
        await lead.closed.wait()
        assert bench.leftovers == NOTHING


async def test_a_run_whose_record_cannot_be_read_any_more_still_publishes_an_end(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [ContentDelta("well"), Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: len(live.events) == 2)
        bench.change("UPDATE runs SET allowed_agents = 'not JSON'")
        gate.set()
        end = end_of(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert (end.outcome.error.code, end.summary.record.cost_complete) == ("agent_error", False)
        assert bench.leftovers == NOTHING
