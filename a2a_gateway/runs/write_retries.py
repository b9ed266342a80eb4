"""Writes that the database refused at the end of a call or of a run: each is tried again until it is accepted.

Without them a call would stay unbooked and a run open. The module owns its tasks; its owner drains it. What is refused until then
is repaired at the next start, which ends every run that is still open.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from a2a_gateway.errors import StoreError

type Write = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class WriteRetries:
    """Tries writes again.

    Attributes:
        retry_after_s: pause between two attempts of one write.
        on_written: called when a write was accepted.
    """

    retry_after_s: float
    on_written: Callable[[], None]
    _draining: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, write: Write) -> None:
        """Try a write again until it is accepted."""
        task = asyncio.create_task(self._write(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def drain(self) -> None:
        """Try each write once more, now, and wait for the result."""
        self._draining.set()
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write(self, write: Write) -> None:
        is_last_attempt = False
        while not is_last_attempt:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.retry_after_s):
                    await self._draining.wait()
            is_last_attempt = self._draining.is_set()
            with suppress(StoreError):
                await write()
                self.on_written()
                return
