"""Slots: in order, lent to children, given back in every ending."""

import asyncio

import pytest

from a2a_gateway.errors import CapacityExceeded
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.model import RunId
from tests.error_texts.texts import pattern_of
from tests.support.until import until

pytestmark = pytest.mark.anyio
FULL_QUEUE = pattern_of("capacity_exceeded: the queue is full")


async def _wait_for_waiters(capacity: Capacity, number: int) -> None:
    await until(lambda: capacity.waiting >= number)


async def _hold(capacity: Capacity, name: str, parent: str | None, started: list[str], release: asyncio.Event) -> None:
    async with capacity.slot(RunId(name), RunId(parent) if parent else None, timeout_s=60):
        started.append(name)
        await release.wait()


async def test_a_full_gateway_queues_in_order_and_refuses_what_exceeds_the_queue() -> None:
    capacity, started, release = Capacity(limit=1, queue_limit=2), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "third"):
            group.create_task(_hold(capacity, name, None, started, release))
        await _wait_for_waiters(capacity, 2)
        with pytest.raises(CapacityExceeded, match=FULL_QUEUE) as refused:
            async with capacity.slot(RunId("fourth"), None, timeout_s=60):
                pass
        release.set()
    assert (refused.value.code, started, capacity.working) == ("capacity_exceeded", ["first", "second", "third"], 0)


async def test_children_that_wait_take_no_place_in_the_queue_from_new_trees() -> None:
    capacity, started, release = Capacity(limit=1, queue_limit=1), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group, capacity.slot(RunId("parent"), None, timeout_s=60):
        for name in ("first child", "second child", "third child"):
            group.create_task(_hold(capacity, name, "parent", started, release))
        await _wait_for_waiters(capacity, 2)
        group.create_task(_hold(capacity, "next", None, started, release))
        await _wait_for_waiters(capacity, 3)
        with pytest.raises(CapacityExceeded, match=FULL_QUEUE):
            async with capacity.slot(RunId("one too many"), None, timeout_s=60):
                pass
        release.set()
    assert (sorted(started), capacity.working) == (["first child", "next", "second child", "third child"], 0)


async def test_a_wait_that_is_too_long_is_refused_and_leaves_no_trace() -> None:
    capacity, release = Capacity(limit=1, queue_limit=5), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_hold(capacity, "first", None, [], release))
        await asyncio.sleep(0)
        with pytest.raises(CapacityExceeded, match=pattern_of("capacity_exceeded: no slot in time")):
            async with capacity.slot(RunId("second"), None, timeout_s=0):
                pass
        release.set()
    assert (capacity.waiting, capacity.working) == (0, 0)


async def test_a_cancelled_wait_gives_its_place_in_the_queue_back() -> None:
    capacity, started, release = Capacity(limit=1, queue_limit=5), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_hold(capacity, "first", None, started, release))
        await asyncio.sleep(0)
        doomed = group.create_task(_hold(capacity, "doomed", None, started, release))
        group.create_task(_hold(capacity, "last", None, started, release))
        await _wait_for_waiters(capacity, 2)
        doomed.cancel()
        release.set()
    assert (started, capacity.waiting, capacity.working) == (["first", "last"], 0, 0)


async def test_twenty_nested_runs_fit_into_one_slot() -> None:
    capacity = Capacity(limit=1, queue_limit=0)

    async def descend(depth: int) -> int:
        parent = RunId(str(depth - 1)) if depth else None
        async with capacity.slot(RunId(str(depth)), parent, timeout_s=60):
            return depth if depth == 20 else await descend(depth + 1)

    assert (await descend(0), capacity.working) == (20, 0)


async def test_parallel_children_of_a_full_gateway_take_turns_with_their_parents_slot() -> None:
    capacity, running, most = Capacity(limit=1, queue_limit=0), 0, 0

    async def child(name: str) -> None:
        nonlocal running, most
        async with capacity.slot(RunId(name), RunId("parent"), timeout_s=60):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    async with capacity.slot(RunId("parent"), None, timeout_s=60), asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(child(f"child {number}"))
    assert (most, capacity.working, capacity.waiting) == (1, 0, 0)


async def test_a_slot_lent_by_a_run_that_has_ended_returns_to_the_queue() -> None:
    capacity, started, release = Capacity(limit=1, queue_limit=5), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        async with capacity.slot(RunId("parent"), None, timeout_s=60):
            group.create_task(_hold(capacity, "child", "parent", started, release))
            await asyncio.sleep(0)
        group.create_task(_hold(capacity, "next", None, started, release))
        await _wait_for_waiters(capacity, 1)
        assert started == ["child"]
        release.set()
    assert (started, capacity.working) == (["child", "next"], 0)
