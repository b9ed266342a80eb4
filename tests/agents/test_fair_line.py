"""Places that users share."""

import asyncio

import pytest

from a2a_gateway.agents.fair_line import FairLine

pytestmark = pytest.mark.anyio


async def test_a_user_with_many_requests_delays_others_by_one() -> None:
    line, order = FairLine(1), list[str]()

    async def work(user: str) -> None:
        async with line.place(user):
            order.append(user)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(user) for user in ["many"] * 5 + ["few"] * 2 + ["one"]))
    assert order == ["many", "few", "one", "many", "few", "many", "many", "many"]


async def test_a_request_that_is_cancelled_gives_its_place_to_the_next() -> None:
    line, order = FairLine(1), list[str]()

    async def work(user: str) -> None:
        async with line.place(user):
            order.append(user)

    async with line.place("first"):
        waiting = [asyncio.create_task(work(user)) for user in ("a", "b", "c")]
        await asyncio.sleep(0)
        waiting[0].cancel()  # while it waits
    waiting[1].cancel()  # when it has been given the place
    await asyncio.wait(waiting)
    assert order == ["c"]
    async with asyncio.timeout(10), line.place("last"):
        pass
