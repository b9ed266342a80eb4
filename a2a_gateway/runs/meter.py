"""The ledger, seen from inside one run: waits where only calls under way stand in a call's way, and loses no booking."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from a2a_gateway.errors import BudgetHeld, StoreError
from a2a_gateway.runs.model import CallQuote, RunId, SpendCaps
from a2a_gateway.runs.ports import Charge, Hold, Ledger
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.runs.signal import Signal
from a2a_gateway.runs.write_retries import WriteRetries


@dataclass(frozen=True, slots=True)
class RunMeter:
    """Satisfies `ports.Meter` for one run.

    Attributes:
        caps: of the run's profile.
        settled: told when a call of any run has given back what it held.
        presumptions: of all calls of this process.
        patience_s: how long a call waits for others to give back what they hold: none holds it for ever.
        look_again_s: how often it looks untold, because a day ends, and a hold that nobody settles is given back, without a word.
    """

    ledger: Ledger
    run_id: RunId
    caps: SpendCaps
    write_retries: WriteRetries
    settled: Signal
    presumptions: Presumptions
    patience_s: float
    look_again_s: float = 30.0

    async def reserve(self, quote: CallQuote) -> Hold:
        """See `Meter.reserve`."""
        return await self._patiently(lambda: self.ledger.reserve(self.run_id, quote, self.caps))

    async def escrow(self) -> Hold:
        """See `Meter.escrow`."""
        return await self._patiently(lambda: self.ledger.escrow(self.run_id, self.caps))

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """See `Meter.follow`."""
        self.presumptions.follow(hold, used_micro_usd)

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """See `Meter.settle`."""
        self.presumptions.forget(hold)
        try:
            await self.ledger.settle(hold, charge)
        except StoreError:
            # The money is spent, whether or not it could be booked just now; the run hears of the failure all the same.
            self.write_retries.add(lambda: self.ledger.settle(hold, charge))
            raise
        finally:
            self.settled.notify()

    async def note_remote(self, remote_run_id: str) -> None:
        """See `Meter.note_remote`."""
        await self.ledger.note_remote(self.run_id, remote_run_id)

    async def _patiently(self, attempt: Callable[[], Awaitable[Hold]]) -> Hold:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.patience_s
        while True:
            settlement = self.settled.next
            try:
                return await attempt()
            except asyncio.CancelledError:
                self.settled.notify()  # what it may have been given in this instant was given back; others waited for it
                raise
            except BudgetHeld:
                if (left_s := give_up_at - loop.time()) <= 0:
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, self.look_again_s)):
                        await settlement.wait()
