"""Receive the bodies of requests into a bounded memory.

A body is received only after its caller is authenticated; until then uvicorn buffers some 64 kB of it. A larger body first
reserves its whole length in a memory that all bodies share, so bodies that are never finished cannot fill the machine's memory.
One key can reserve half of it, so it cannot keep the others out.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Final

from starlette.requests import Request

from a2a_gateway.errors import BodyTooLarge, CapacityExceeded, RequestError
from a2a_gateway.runs.signal import Signal

_SMALL_BYTES: Final = 64 * 1024


class Bodies:
    """Receives the bodies of one gateway's requests.

    Args:
        limit_bytes: of one body.
        memory_bytes: of all bodies above 64 kB together.
        wait_s: how long a request waits for memory.
    """

    def __init__(self, limit_bytes: int, memory_bytes: int, wait_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._memory_bytes = memory_bytes
        self._share_bytes = max(memory_bytes // 2, limit_bytes)
        self._wait_s = wait_s
        self._taken: Counter[str] = Counter()
        self._freed = Signal()

    @asynccontextmanager
    async def receive(self, request: Request, owner: str) -> AsyncIterator[bytes]:
        """Receive a body, and reserve its memory until the context ends.

        Raises:
            BodyTooLarge: it is larger than the limit; raised as soon as that is known.
            CapacityExceeded: the memory for it was not free in time.
            RequestError: it is compressed.
        """
        length_bytes = self._length_of(request)
        pieces, size_bytes, is_taken = [], 0, False
        with ExitStack() as memory:
            async for piece in request.stream():
                size_bytes += len(piece)
                if size_bytes > self._limit_bytes:
                    raise self._too_large(size_bytes)
                if size_bytes > _SMALL_BYTES and not is_taken:
                    memory.enter_context(await self._take(owner, length_bytes))
                    is_taken = True
                pieces.append(piece)
            yield b"".join(pieces)

    def _length_of(self, request: Request) -> int:
        """Return the greatest length that a body may have; for a chunked one, the limit."""
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise RequestError(
                f"Content-Encoding: {encoding[:40]} is not supported; send the body uncompressed.", param="Content-Encoding"
            )
        announced = request.headers.get("content-length", "")
        length_bytes = int(announced) if announced.isdigit() else self._limit_bytes
        if length_bytes > self._limit_bytes:
            raise self._too_large(length_bytes)
        return length_bytes

    async def _take(self, owner: str, size_bytes: int) -> AbstractContextManager[None]:
        """Wait for enough memory, and return a context that holds it."""
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(owner, size_bytes):
                    await self._freed.next.wait()
        except TimeoutError:
            raise CapacityExceeded(
                f"The bodies that are being received take up {self._taken.total()} bytes; all may take {self._memory_bytes}, and "
                f"those of one key {self._share_bytes}. Send fewer large requests at once, or raise A2A_BODY_MEMORY_BYTES."
            ) from None
        self._taken[owner] += size_bytes
        return self._taken_memory(owner, size_bytes)

    @contextmanager
    def _taken_memory(self, owner: str, size_bytes: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._taken[owner] -= size_bytes
            self._taken += Counter()  # drops owners with nothing left
            self._freed.notify()

    def _has_room(self, owner: str, size_bytes: int) -> bool:
        is_first = not self._taken  # may take it all, even if the memory is smaller than the limit of one body
        return is_first or (
            self._taken.total() + size_bytes <= self._memory_bytes and self._taken[owner] + size_bytes <= self._share_bytes
        )

    def _too_large(self, size_bytes: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body has at least {size_bytes} bytes; the limit is {self._limit_bytes}. "
            "Send less, or raise A2A_BODY_LIMIT_BYTES."
        )
