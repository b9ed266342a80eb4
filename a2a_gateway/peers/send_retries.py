"""Retry a request to a peer, only if nothing was executed or the peer deduplicates by idempotency key."""

from collections.abc import Awaitable, Callable
from typing import Final

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from delegate_tool.protocol.fields import Header
from delegate_tool.remote.failures import NOT_SENT, parse_retry_after

ATTEMPTS: Final = 3
"""Attempts at a gateway. A plain endpoint gets as many as an LLM does."""
_LONGEST_PAUSE_S: Final = 8.0
_backoff: Final = wait_exponential_jitter(initial=0.25, max=4.0, jitter=0.25)


async def send_with_retries[T](send: Callable[[], Awaitable[T]], *, deduplicates: bool, attempts: int = ATTEMPTS) -> T:
    """Send up to `attempts` times, and raise what the last attempt raised.

    Args:
        deduplicates: whether the peer executes a request once, however often it arrives with the same idempotency key.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=_pause_s,
        retry=retry_if_exception(lambda error: may_retry(error, deduplicates=deduplicates)),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await send()
    raise AssertionError("the last attempt returns or raises")


def may_retry(error: BaseException, *, deduplicates: bool) -> bool:
    """Return whether a request that failed with this error may be sent again."""
    match error:
        case openai.APIConnectionError() if isinstance(error.__cause__, NOT_SENT):
            return True
        case openai.APITimeoutError():
            return False  # no time is left
        case openai.APIConnectionError():
            return deduplicates
        case openai.APIStatusError(status_code=429 | 503, response=response):
            was_admitted = Header.RUN_ID in response.headers
            is_soon = (parse_retry_after(response.headers) or 0.0) <= _LONGEST_PAUSE_S
            return not was_admitted and is_soon and response.headers.get(Header.SHOULD_RETRY) != "false"
        case _:
            return False


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = parse_retry_after(error.response.headers) if isinstance(error, openai.APIStatusError) else None
    return _backoff(state) if asked_s is None else asked_s
