"""Conversations that several runs want: they wait in order and without slots, and none waits for ever."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from a2a_gateway.errors import ConversationBusy, GatewayError
from a2a_gateway.runs.conversation_queue import ConversationQueue
from a2a_gateway.runs.events import Failed, Finished, RunEnded
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import AdmittedRun, RunState
from a2a_gateway.testing.scripted_runner import RunStep, Until
from tests.runs.service_bench import Bench, bench_of, by_task, end_of, follow
from tests.support.until import until

pytestmark = pytest.mark.anyio

KEPT = RunEnded(Finished("done"), "history")


def failure_of(live: LiveRun) -> GatewayError:
    outcome = end_of(live.events).outcome
    assert isinstance(outcome, Failed)
    return outcome.error


async def kept_conversation(bench: Bench) -> str:
    """Make a conversation that no run has leased."""
    first = await bench.start("kept")
    await follow(first)
    return first.record.conversation_id


async def test_runs_that_wait_for_a_conversation_hold_no_slot_and_come_in_order(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, by_task(first=[Until(gate), KEPT], next=[KEPT], other=[KEPT]), slots=2, ttl_s=60) as bench:
        first = await bench.start("first")
        waiting = [await bench.start("next", conversation_id=first.record.conversation_id) for _ in range(8)]
        assert bench.service.capacity.working == 1
        assert isinstance(end_of(await follow(await bench.start("other"))).outcome, Finished)
        gate.set()
        ends = await asyncio.gather(*(follow(live) for live in waiting))
        assert {type(end_of(events).outcome) for events in ends} == {Finished}
        continued = [run.record.id for run in bench.runner.admitted if run.transcript]
        assert continued == [live.record.id for live in waiting]
        assert (bench.service.capacity.working, bench.leftovers["leases"]) == (0, set())


async def test_more_runs_than_may_wait_for_a_conversation_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, by_task(first=[Until(gate), KEPT], next=[KEPT]), ttl_s=60, turns=ConversationQueue(4)) as bench:
        first, other = [await bench.start("first") for _ in range(2)]
        waiting = [await bench.start("next", conversation_id=first.record.conversation_id) for _ in range(2)]
        refused = await bench.start("next", conversation_id=first.record.conversation_id)
        waiting += [await bench.start("next", conversation_id=other.record.conversation_id) for _ in range(2)]
        await follow(refused)
        gate.set()
        await asyncio.gather(*(follow(live) for live in waiting))
        assert (failure_of(refused).code, failure_of(refused).retryable) == ("capacity_exceeded", True)
        assert await bench.state(refused) is RunState.FAILED
        again = await bench.start("next", conversation_id=first.record.conversation_id)
        assert isinstance(end_of(await follow(again)).outcome, Finished)


async def test_a_conversation_that_stays_busy_ends_the_wait_at_the_deadline(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, by_task(first=[Until(gate), KEPT], next=[KEPT]), ttl_s=60) as bench:
        first = await bench.start("first")
        late = await bench.start("next", conversation_id=first.record.conversation_id, timeout_s=0.05)
        await follow(late)
        assert failure_of(late).code == "deadline_exceeded"
        gate.set()
        await follow(first)
        assert bench.leftovers["leases"] == set()


async def test_a_root_that_waits_for_a_slot_does_not_keep_its_conversation_from_a_child(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(
        tmp_path, by_task(kept=[KEPT], lead=[Until(gate), KEPT], part=[KEPT], root=[KEPT]), slots=1, ttl_s=60
    ) as bench:
        conversation_id = await kept_conversation(bench)
        lead = await bench.start("lead")
        root = await bench.start("root", conversation_id=conversation_id)
        await until(lambda: bench.service.capacity.waiting == 1)
        part = await bench.start("part", lead, conversation_id=conversation_id)
        assert isinstance(end_of(await follow(part)).outcome, Finished)
        gate.set()
        assert isinstance(end_of(await follow(root)).outcome, Finished)


@pytest.mark.parametrize("leads", [1, 2, 3])
async def test_runs_that_delegate_into_each_others_conversations_are_refused_at_once(tmp_path: Path, leads: int) -> None:
    gate, never = asyncio.Event(), asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(gate), KEPT], part=[Until(never), KEPT]), ttl_s=60) as bench:
        roots = [await bench.start("lead") for _ in range(leads)]
        conversations = [root.record.conversation_id for root in roots]
        parts = [
            await bench.start("part", root, conversation_id=conversations[(number + 1) % leads])
            for number, root in enumerate(roots)
        ]
        await follow(parts[-1])
        assert isinstance(failure_of(parts[-1]), ConversationBusy)
        assert not any(part.has_ended for part in parts[:-1])
        gate.set()
        await asyncio.gather(*(root.closed.wait() for root in roots))


async def test_a_circle_through_a_run_that_has_not_begun_is_found(tmp_path: Path) -> None:
    # The first child waits behind another run for the conversation of the second lead, which then delegates to the first.
    gate, never = asyncio.Event(), asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(gate), KEPT], part=[Until(never), KEPT]), ttl_s=60) as bench:
        first, second, third = [await bench.start("lead") for _ in range(3)]
        ahead = await bench.start("part", third, conversation_id=second.record.conversation_id)
        behind = await bench.start("part", first, conversation_id=second.record.conversation_id)
        closing = await bench.start("part", second, conversation_id=third.record.conversation_id)
        await follow(closing)
        assert isinstance(failure_of(closing), ConversationBusy)
        also_closing = await bench.start("part", second, conversation_id=first.record.conversation_id)
        await follow(also_closing)
        assert isinstance(failure_of(also_closing), ConversationBusy)
        assert not (ahead.has_ended or behind.has_ended)
        gate.set()
        await asyncio.gather(*(root.closed.wait() for root in (first, second, third)))


async def test_a_child_waits_for_a_conversation_whose_run_does_not_wait_for_it(tmp_path: Path) -> None:
    gate, last = asyncio.Event(), asyncio.Event()

    def script(run: AdmittedRun) -> Sequence[RunStep]:
        return by_task(lead=[Until(last), KEPT], busy=[Until(gate), KEPT], part=[KEPT])(run)

    async with bench_of(tmp_path, script, ttl_s=60) as bench:
        lead, busy = await bench.start("lead"), await bench.start("busy")
        part = await bench.start("part", lead, conversation_id=busy.record.conversation_id)
        gate.set()
        assert isinstance(end_of(await follow(part)).outcome, Finished)
        last.set()
        await follow(lead)
