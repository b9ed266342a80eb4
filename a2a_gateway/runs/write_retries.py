"""Writes that the database refused at the end of a call or of a run, tried again until it takes them, so that accounts are right.

Owns its tasks; whoever owns the write_retries drains it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from a2a_gateway.errors import StoreError

type Write = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class WriteRetries:
    """Writes to be tried again.

    Attributes:
        retry_after_s: pause between two tries of one write.
        on_written: called when one was taken.
    """

    retry_after_s: float
    on_written: Callable[[], None]
    _last_call: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, write: Write) -> None:
        """Try a write again, until it is taken."""
        task = asyncio.create_task(self._write(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def drain(self) -> None:
        """Try each write once more, now; what is refused then is left to the next start, which ends what is still open."""
        self._last_call.set()
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write(self, write: Write) -> None:
        last_try = False
        while not last_try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.retry_after_s):
                    await self._last_call.wait()
            last_try = self._last_call.is_set()
            with suppress(StoreError):
                await write()
                self.on_written()
                return
