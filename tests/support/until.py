"""Polling, for what sends no event: the state of another process, thread or event loop."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, overload


@overload
async def until[T](condition: Callable[[], Awaitable[T | None]], *, timeout_s: float = 30) -> T: ...
@overload
async def until[T](condition: Callable[[], T | None], *, timeout_s: float = 30) -> T: ...
async def until(condition: Callable[[], Any], *, timeout_s: float = 30) -> Any:
    """Call a condition, plain or async, until it returns something true, and return that.

    Raises:
        TimeoutError: it has not within `timeout_s`.
    """
    async with asyncio.timeout(timeout_s):
        while True:
            result = condition()
            found = await result if inspect.isawaitable(result) else result
            if found:
                return found
            await asyncio.sleep(0.005)


def block_until[T](condition: Callable[[], T | None], *, timeout_s: float = 30) -> T:
    """Do what `until` does, in a thread that may block."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition was not true within {timeout_s:g} s")
        time.sleep(0.005)
    return found
