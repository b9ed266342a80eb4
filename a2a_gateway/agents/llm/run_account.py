"""The account of one run: reserve money before each attempt of an LLM call, settle it once afterwards, and count turns.

`metered_llm` makes the calls; the core's `Meter` has the money. Knows no provider and no SDK.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from a2a_gateway.agents.llm.pricing import ExactSum
from a2a_gateway.errors import TurnsExceeded
from a2a_gateway.runs.events import TurnFinished
from a2a_gateway.runs.model import CallQuote, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold, Meter


class RunAccount:
    """Books the LLM calls of one run. Belongs to one event loop."""

    def __init__(self, meter: Meter, *, max_turns: int, emit: Callable[[TurnFinished], None]) -> None:
        self._meter = meter
        self._max_turns = max_turns
        self._emit = emit
        self._sum = ExactSum()
        self._bookings: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.turns = 0

    def begin_turn(self) -> None:
        """Count a turn.

        Raises:
            TurnsExceeded: the run has used all its turns.
        """
        if self.turns >= self._max_turns:
            raise TurnsExceeded(
                f"The agent used all of its {self._max_turns} turns without an answer. Allow more, or ask for less at once.",
                details={"max_turns": self._max_turns},
            )
        self.turns += 1

    def end_turn(self, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        """Emit the end of a turn, with the usage and cost of all its attempts."""
        self._emit(TurnFinished(self.turns, usage, cost_micro_usd))

    async def reserve(self, quote: CallQuote) -> Hold:
        """Reserve money for one attempt; raises what `Meter.reserve` raises."""
        return await self._meter.reserve(quote)

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """See `Meter.follow`."""
        self._meter.follow(hold, used_micro_usd)

    async def settle(
        self, hold: Hold, usage: TokenUsage, cost_usd: Decimal | None, *, complete: bool = True, turns: int = 1
    ) -> int | None:
        """Settle one attempt, and return its cost in micro-USD. The booking completes even if the caller is cancelled."""
        cost_micro_usd = None if cost_usd is None else self._sum.add(cost_usd)
        booking = asyncio.ensure_future(self._meter.settle(hold, Charge(usage, cost_micro_usd, complete, turns)))
        self._bookings.add(booking)
        await asyncio.shield(booking)
        return cost_micro_usd

    async def close(self) -> None:
        """Wait for the bookings of cancelled callers.

        Raises:
            StoreError: one of them could not be written.
        """
        for result in await asyncio.gather(*self._bookings, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
