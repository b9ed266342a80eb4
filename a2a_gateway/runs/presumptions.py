"""Presumptions: the estimates that a crash would charge for the LLM calls under way, updated while their output arrives.

A crash leaves calls whose cost is unknown. `budget` explains why each is then charged an estimate, and what too low an estimate
can do. A hold is created with an estimate for a call that was sent and has no output yet. As output arrives, the estimate grows:

    once a period    all estimates that have grown enough are recorded, in one transaction
    at settlement    the call is forgotten, and its real cost replaces the estimate

So a delta costs no write, and a call that lasts less than a period costs no write either. A crash charges too little by at most
what two periods, and the last tenth of an estimate, would have added.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from a2a_gateway.errors import StoreError
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.ports import Hold, Ledger

log = get_log(__name__)

PERIOD_S: Final = 1.0
_WORTH_RECORDING: Final = 1.1
"""Factor by which an estimate has to grow before it is recorded again."""


@dataclass(slots=True)
class _Call:
    """A call under way, and the estimate that is recorded for it."""

    used_micro_usd: Callable[[], int]
    most_micro_usd: int
    recorded_micro_usd: int
    is_new: bool = True


@dataclass(slots=True)
class Presumptions:
    """The estimates of all calls under way in this process. Belongs to one event loop."""

    ledger: Ledger
    _calls: dict[str, _Call] = field(default_factory=dict)

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """See `Meter.follow`."""
        if hold.presumed_micro_usd < hold.reserved_micro_usd:
            self._calls[hold.id] = _Call(used_micro_usd, hold.reserved_micro_usd, hold.presumed_micro_usd)

    def forget(self, hold: Hold) -> None:
        """Stop following a call: it is about to be settled."""
        self._calls.pop(hold.id, None)

    async def record(self) -> None:
        """Record the estimates that have grown enough since the last time.

        Raises:
            StoreError: the database refused them; the next period records them.
        """
        grown: dict[str, int] = {}
        for hold_id, call in self._calls.items():
            used = 0 if call.is_new else min(call.used_micro_usd(), call.most_micro_usd)
            call.is_new = False
            if used > call.recorded_micro_usd * _WORTH_RECORDING:
                grown[hold_id] = used
        if not grown:
            return
        await self.ledger.presume(grown)
        for hold_id, used in grown.items():
            if (recorded := self._calls.get(hold_id)) is not None:
                recorded.recorded_micro_usd = used

    async def record_often(self) -> None:
        """Record once a period, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.record()
            except StoreError as error:
                log.warning("presumptions_not_recorded", code=error.code)
