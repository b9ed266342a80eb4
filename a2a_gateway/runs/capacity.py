"""Capacity: how many runs work at once, without nested runs waiting for each other in a circle.

A run that delegates only waits. So it lends its slot to one child at a time, and gets it back when that child ends:

    run      its slot
    root     a free one; if all are in use it waits in the queue, with at most `queue_limit` roots
    child    its parent's; while a sibling has that, a free one, or the parent's when the sibling ends

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
class _Run:
    """A run that has a slot, has lent it to a child, or waits for one. `assigned` is done when it has got its first slot."""

    id: RunId
    parent_id: RunId | None
    assigned: asyncio.Future[None]
    lender: "_Run | None" = None
    has_slot: bool = False
    live: bool = True


@dataclass(slots=True)
class Capacity:
    """Assigns slots to runs that work at the same time.

    Attributes:
        limit: slots.
        queue_limit: root runs that may wait for a slot. Children always may: their parent's breadth bounds their number.
    """

    limit: int
    queue_limit: int
    _used: int = 0
    _runs: dict[RunId, _Run] = field(default_factory=dict)
    _waiting: deque[_Run] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """The number of runs that wait for a slot."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """The number of slots in use."""
        return self._used

    @asynccontextmanager
    async def slot(self, run_id: RunId, parent_id: RunId | None, *, timeout_s: float) -> AsyncIterator[None]:
        """Give a run a slot while the context lasts, after waiting in order for at most `timeout_s`.

        Raises:
            CapacityExceeded: the queue is full, or the wait was too long.
        """
        run = await self._take(run_id, parent_id, timeout_s)
        try:
            yield
        finally:
            self._leave(run)

    async def _take(self, run_id: RunId, parent_id: RunId | None, timeout_s: float) -> _Run:
        run = _Run(run_id, parent_id, asyncio.get_running_loop().create_future())
        parent = self._runs.get(parent_id) if parent_id else None
        if parent is not None and parent.has_slot:
            parent.has_slot = False
            self._assign(run, lender=parent)
        elif self._used < self.limit and not self._waiting:
            self._used += 1
            self._assign(run, lender=None)
        else:
            await self._wait(run, timeout_s)
        self._runs[run_id] = run
        return run

    async def _wait(self, run: _Run, timeout_s: float) -> None:
        if run.parent_id is None and self._waiting_roots() >= self.queue_limit:
            raise self._refusal(f"{self.queue_limit} more are waiting, which is the limit")
        self._waiting.append(run)
        try:
            async with asyncio.timeout(timeout_s):
                await run.assigned
        except TimeoutError:
            self._give_up(run)
            raise self._refusal(f"none ended within {timeout_s:g} s") from None
        except BaseException:
            self._give_up(run)
            raise

    def _waiting_roots(self) -> int:
        return sum(run.parent_id is None for run in self._waiting)

    def _refusal(self, why: str) -> CapacityExceeded:
        return CapacityExceeded(
            f"The gateway is full: {self.limit} runs are at work and {why}. Try again later.",
            details={"scope": "gateway", "max_concurrent_runs": self.limit},
            retry_after_s=5,
        )

    def _assign(self, run: _Run, lender: _Run | None) -> None:
        run.lender, run.has_slot = lender, True
        if not run.assigned.done():
            run.assigned.set_result(None)

    def _give_up(self, run: _Run) -> None:
        if run.has_slot:  # it was assigned in the same instant
            self._leave(run)
        elif run in self._waiting:
            self._waiting.remove(run)

    def _leave(self, run: _Run) -> None:
        run.live = False
        self._runs.pop(run.id, None)
        if run.has_slot:
            run.has_slot = False
            self._pass_on(run.lender)

    def _pass_on(self, lender: _Run | None) -> None:
        while lender is not None and not lender.live:
            lender = lender.lender
        if lender is None:
            self._used -= 1
            if self._waiting:
                self._used += 1
                self._assign(self._waiting.popleft(), lender=None)
            return
        for run in self._waiting:
            if run.parent_id == lender.id:
                self._waiting.remove(run)
                self._assign(run, lender=lender)
                return
        lender.has_slot = True
