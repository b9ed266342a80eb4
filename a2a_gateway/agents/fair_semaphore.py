"""A semaphore that is fair to its users: those with few requests are served first. Pure asyncio."""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSemaphore:
    """A number of permits, shared by users; one user may send very many requests.

    The rank of a request is the number of requests that its user already has, waiting or with a permit. Lower ranks go first. So
    a user's first request waits for at most one request of each other user.
    """

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._requests: Counter[str] = Counter()
        self._numbers = itertools.count()

    @asynccontextmanager
    async def acquire(self, user: str) -> AsyncIterator[None]:
        """Wait for a permit, and keep it during the context."""
        self._requests[user] += 1
        try:
            await self._wait(self._requests[user])
            try:
                yield
            finally:
                self._release()
        finally:
            self._requests[user] -= 1
            if not self._requests[user]:
                del self._requests[user]

    async def _wait(self, rank: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it received the permit before it was cancelled
            raise

    def _release(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
