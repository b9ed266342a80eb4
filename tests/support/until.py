"""Waiting for what nobody tells: what another process, thread or event loop does."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Look until it is so, for half a minute at most."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.005)
