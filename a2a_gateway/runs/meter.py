"""The meter of one run: reserves money before each LLM call, and settles it after the call.

    act       what it does                                         what may go wrong
    reserve   sets money aside for one call                        other calls hold the money: waits for them (`BudgetHeld`)
    escrow    sets aside all that a run on a peer may spend        as for `reserve`
    follow    estimates what the call has used so far              the process dies: the estimate is charged (`presumptions`)
    settle    books what the call used, and releases the rest      the database refuses: the write is tried again

Each hold is settled exactly once, whatever happens to its call. `budget` decides how much; the ledger books it.
"""

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
        settled: notified when a call of any run has released what it held.
        presumptions: of all calls of this process.
        patience_s: how long a call waits for others to release what they hold.
        look_again_s: how often a waiting call looks without a notification: the end of a day, and the release of an overdue hold,
            are not notified.
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
        return await self._wait_for_money(lambda: self.ledger.reserve(self.run_id, quote, self.caps))

    async def escrow(self) -> Hold:
        """See `Meter.escrow`."""
        return await self._wait_for_money(lambda: self.ledger.escrow(self.run_id, self.caps))

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """See `Meter.follow`."""
        self.presumptions.follow(hold, used_micro_usd)

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """See `Meter.settle`."""
        self.presumptions.forget(hold)
        try:
            await self.ledger.settle(hold, charge)
        except StoreError:
            # The money is spent, whether or not it could be booked now. The run fails with the error in any case.
            self.write_retries.add(lambda: self.ledger.settle(hold, charge))
            raise
        finally:
            self.settled.notify()

    async def note_remote(self, remote_run_id: str) -> None:
        """See `Meter.note_remote`."""
        await self.ledger.note_remote(self.run_id, remote_run_id)

    async def _wait_for_money(self, attempt: Callable[[], Awaitable[Hold]]) -> Hold:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.patience_s
        while True:
            settlement = self.settled.next
            try:
                return await attempt()
            except asyncio.CancelledError:
                self.settled.notify()  # the ledger has undone what this call may have got, and others may wait for it
                raise
            except BudgetHeld:
                if (left_s := give_up_at - loop.time()) <= 0:
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, self.look_again_s)):
                        await settlement.wait()
