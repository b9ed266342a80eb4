"""A semaphore that users share fairly."""

import asyncio

import pytest

from a2a_gateway.agents.fair_semaphore import FairSemaphore

pytestmark = pytest.mark.anyio


async def test_a_user_with_many_requests_delays_others_by_one() -> None:
    semaphore, order = FairSemaphore(1), list[str]()

    async def work(user: str) -> None:
        async with semaphore.acquire(user):
            order.append(user)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(user) for user in ["many"] * 5 + ["few"] * 2 + ["one"]))
    assert order == ["many", "few", "one", "many", "few", "many", "many", "many"]


async def test_a_request_that_is_cancelled_passes_its_permit_to_the_next() -> None:
    semaphore, order = FairSemaphore(1), list[str]()

    async def work(user: str) -> None:
        async with semaphore.acquire(user):
            order.append(user)

    async with semaphore.acquire("first"):
        waiting = [asyncio.create_task(work(user)) for user in ("a", "b", "c")]
        await asyncio.sleep(0)
        waiting[0].cancel()  # while it waits
    waiting[1].cancel()  # when it has been given the permit
    await asyncio.wait(waiting)
    assert order == ["c"]
    async with asyncio.timeout(10), semaphore.acquire("last"):
        pass
