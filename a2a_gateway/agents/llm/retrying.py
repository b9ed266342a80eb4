"""Retry LLM calls: how long to wait, and which failures the client has to decide about.

A wait that the provider requests is respected if it is short. If a rate limit requests a longer one, the call is not retried: the
client receives the requested wait in `Retry-After` and decides.
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
"""The longest wait of a provider that is respected here. With a longer one, the client decides."""


def add_retries(retry: Callable[[Callable[..., Any]], Any], attempt: SendAttempt, *, once: bool = False) -> SendAttempt:
    """Return a function that repeats an attempt by the rules of tenacity's decorator, or that makes only one attempt.

    The function that tenacity returns refers to itself. Build the retrying object around a placeholder, call it with the real
    function, and reset its state, so that no reference cycle keeps the request alive until the garbage collector runs.
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
    """Return whether another attempt may succeed soon."""
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
    """Do nothing; see `add_retries`."""
