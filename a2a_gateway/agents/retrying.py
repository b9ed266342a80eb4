"""Retries that leave no garbage.

What tenacity makes of a function refers to itself; with it, all that a request has used would wait for the garbage collector.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from a2a_gateway.agents.pricing import LLMReply

type Attempt = Callable[..., Awaitable[LLMReply]]


def retried(retry: Callable[[Callable[..., Any]], Any], attempt: Attempt) -> Attempt:
    """Let tenacity's decorator repeat an attempt.

    It is given a function of no consequence, is lent the real one for the call, and is made to forget what it did with it.
    """
    retrying: Any = cast("Any", retry(_nothing)).retry

    async def repeatedly(*args: Any, **kwargs: Any) -> LLMReply:
        try:
            reply: LLMReply = await retrying(attempt, *args, **kwargs)
            return reply
        finally:
            retrying.iter_state.reset()

    return repeatedly


async def _nothing() -> None:
    """Stand in for an attempt."""
