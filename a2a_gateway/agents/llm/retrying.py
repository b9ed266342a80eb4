"""Retries of an LLM call: how long to wait, when to leave it to the client, and no garbage.

A provider that asks for a short wait gets it. One that limits the rate and asks for a longer one is not asked again: the client
is passed what was asked for, and can do something else meanwhile. What tenacity makes of a function refers to itself; with it,
all that a request has used would wait for the garbage collector.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt

from a2a_gateway.agents.llm.error_translation import kind_of, requested_wait_s
from a2a_gateway.agents.llm.pricing import LLMReply
from a2a_gateway.errors import LLMRateLimited, LLMUnavailable
from a2a_gateway.provider_errors import is_beyond_limit

type SendAttempt = Callable[..., Awaitable[LLMReply]]
type Wait = Callable[[RetryCallState], float]

LONGEST_WAIT_S: Final = 5.0
"""Asked for by a provider; a longer one is the client's."""


def add_retries(retry: Callable[[Callable[..., Any]], Any], attempt: SendAttempt, *, once: bool = False) -> SendAttempt:
    """Let tenacity's decorator repeat an attempt, or make only one.

    It is given a function of no consequence, is lent the real one for the call, and is made to forget what it did with it.
    """
    retrying: Any = cast("Any", retry(_placeholder)).retry
    retrying.retry &= retry_if_exception(_is_transient)
    retrying.wait = _prefer_requested_wait(retrying.wait)
    if once:
        retrying.stop = stop_after_attempt(1)

    async def repeatedly(*args: Any, **kwargs: Any) -> LLMReply:
        try:
            reply: LLMReply = await retrying(attempt, *args, **kwargs)
            return reply
        finally:
            retrying.iter_state.reset()

    return repeatedly


def _is_transient(error: BaseException) -> bool:
    """Whether another attempt may help, and the client need not decide about it."""
    kind = kind_of(error)
    if kind is LLMRateLimited:
        return (requested_wait_s(error) or 0) <= LONGEST_WAIT_S and not is_beyond_limit(str(error))
    return kind is LLMUnavailable


def _prefer_requested_wait(otherwise: Wait) -> Wait:
    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        requested_s = requested_wait_s(error) if error else None
        return requested_s if requested_s and requested_s <= LONGEST_WAIT_S else otherwise(state)

    return wait_s


async def _placeholder() -> None:
    """Stand in for an attempt."""
