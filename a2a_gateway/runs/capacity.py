"""Capacity: how many runs work at once, without nested runs waiting for each other in a circle.

A run that delegates only waits. So it lends its slot to one child at a time, and gets it back when that child ends:

    a run is admitted          its slot is
    a root                     a free slot; else it waits in the queue, at most `queue_limit` roots at a time
    a child                    the parent's slot; if a sibling has that, a free one or the sibling's when it ends

Theorem: some run always works. A child waits for a slot only while a sibling works with their parent's, so the innermost runs
always have one. Pure asyncio; independent of what a run does.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from a2a_gateway.errors import CapacityExceeded
from a2a_gateway.runs.model import RunId


@dataclass(slots=True, eq=False)
class _Seat:
    run_id: RunId
    parent_id: RunId | None
    granted: asyncio.Future[None]
    lender: "_Seat | None" = None
    has_slot: bool = False
    live: bool = True


@dataclass(slots=True)
class Capacity:
    """Grants slots to runs that work at the same time.

    Attributes:
        limit: slots.
        queue_limit: root runs that may wait for a slot. Children always may: their parent's breadth bounds their number.
    """

    limit: int
    queue_limit: int
    _used: int = 0
    _seats: dict[RunId, _Seat] = field(default_factory=dict)
    _waiting: deque[_Seat] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """Runs in the queue."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """Slots in use."""
        return self._used

    @asynccontextmanager
    async def slot(self, run_id: RunId, parent_id: RunId | None, *, timeout_s: float) -> AsyncIterator[None]:
        """Give a run a slot while the context lasts, after waiting in order for at most `timeout_s`.

        Raises:
            CapacityExceeded: the queue is full, or the wait was too long.
        """
        seat = await self._take(run_id, parent_id, timeout_s)
        try:
            yield
        finally:
            self._leave(seat)

    async def _take(self, run_id: RunId, parent_id: RunId | None, timeout_s: float) -> _Seat:
        seat = _Seat(run_id, parent_id, asyncio.get_running_loop().create_future())
        parent = self._seats.get(parent_id) if parent_id else None
        if parent is not None and parent.has_slot:
            parent.has_slot = False
            self._grant(seat, lender=parent)
        elif self._used < self.limit and not self._waiting:
            self._used += 1
            self._grant(seat, lender=None)
        else:
            await self._wait(seat, timeout_s)
        self._seats[run_id] = seat
        return seat

    async def _wait(self, seat: _Seat, timeout_s: float) -> None:
        if seat.parent_id is None and self._waiting_roots() >= self.queue_limit:
            raise self._refusal(f"{self.queue_limit} more are waiting, which is the limit")
        self._waiting.append(seat)
        try:
            async with asyncio.timeout(timeout_s):
                await seat.granted
        except TimeoutError:
            self._give_up(seat)
            raise self._refusal(f"none ended within {timeout_s:g} s") from None
        except BaseException:
            self._give_up(seat)
            raise

    def _waiting_roots(self) -> int:
        return sum(seat.parent_id is None for seat in self._waiting)

    def _refusal(self, why: str) -> CapacityExceeded:
        return CapacityExceeded(
            f"The gateway is full: {self.limit} runs are at work and {why}. Try again later.",
            details={"scope": "gateway", "max_concurrent_runs": self.limit},
            retry_after_s=5,
        )

    def _grant(self, seat: _Seat, lender: _Seat | None) -> None:
        seat.lender, seat.has_slot = lender, True
        if not seat.granted.done():
            seat.granted.set_result(None)

    def _give_up(self, seat: _Seat) -> None:
        if seat.has_slot:  # it was granted in the same instant
            self._leave(seat)
        elif seat in self._waiting:
            self._waiting.remove(seat)

    def _leave(self, seat: _Seat) -> None:
        seat.live = False
        self._seats.pop(seat.run_id, None)
        if seat.has_slot:
            seat.has_slot = False
            self._pass_on(seat.lender)

    def _pass_on(self, lender: _Seat | None) -> None:
        while lender is not None and not lender.live:
            lender = lender.lender
        if lender is None:
            self._used -= 1
            if self._waiting:
                self._used += 1
                self._grant(self._waiting.popleft(), lender=None)
            return
        for seat in self._waiting:
            if seat.parent_id == lender.run_id:
                self._waiting.remove(seat)
                self._grant(seat, lender=lender)
                return
        lender.has_slot = True
