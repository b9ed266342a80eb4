"""A repeated wake-up within one event loop: something has changed, so look again."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Signal:
    """Wakes all who wait for the next notification."""

    _next: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def next(self) -> asyncio.Event:
        """Set at the next notification. Take it before reading the state, or a change between the two is missed."""
        return self._next

    def notify(self) -> None:
        """Wake all who wait."""
        self._next.set()
        self._next = asyncio.Event()
