"""A repeated signal within one event loop: something has happened, look again."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Signal:
    """Wakes all who wait for the next time."""

    _next: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def next(self) -> asyncio.Event:
        """Set at the next time; take it before looking at what there is, or one may slip by."""
        return self._next

    def notify(self) -> None:
        """Wake them."""
        self._next.set()
        self._next = asyncio.Event()
