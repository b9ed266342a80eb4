"""Switches off what LiteLLM does beside each call for users of its own logging: a fifth of the CPU of a short run.

LiteLLM works out the price of a streamed call four times and writes a log record of it, whether or not anybody listens. Prices
are `pricing`'s here and the ledger is the record, so neither is read. Whoever has registered callbacks with LiteLLM keeps it all.
Pinned to the LiteLLM of the constraints; `tests/agents/test_litellm_bookkeeping.py` fails if a version moves these names.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import litellm
from litellm.litellm_core_utils.litellm_logging import Logging


def skip_litellm_bookkeeping() -> None:
    """Replace the price calculator and the success log of LiteLLM's calls, for the whole process. Idempotent."""
    if getattr(Logging.dispatch_success_handlers, "skips", False):
        return
    _replace("_response_cost_calculator", _unpriced(Logging._response_cost_calculator))
    _replace("dispatch_success_handlers", _unlogged(Logging.dispatch_success_handlers))


def _somebody_listens() -> bool:
    return bool(litellm.callbacks or litellm.success_callback or litellm._async_success_callback)


def _unpriced(calculate: Callable[..., float | None]) -> Callable[..., float | None]:
    def skip(self: Logging, *args: Any, **kwargs: Any) -> float | None:
        return calculate(self, *args, **kwargs) if _somebody_listens() else None

    return skip


def _unlogged(dispatch: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def skip(self: Logging, *args: Any, **kwargs: Any) -> None:
        if _somebody_listens():
            await dispatch(self, *args, **kwargs)

    return skip


def _replace(name: str, skip: Callable[..., Any]) -> None:
    skip.skips = True  # type: ignore[attr-defined]  # marks what has been replaced
    setattr(Logging, name, skip)
