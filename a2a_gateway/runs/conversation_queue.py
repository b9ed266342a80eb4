"""The queue of each conversation: runs that wait for a conversation wait here, before they take a slot of the gateway.

The lock order of a run that continues a conversation: its turn in the queue, a slot (`capacity`), the conversation. So of all
runs that wait for one conversation at most one holds a slot, and no run holds a conversation while it waits for a slot.

There are two lines for each conversation, one for root runs and one for delegated runs. With one line a gateway could deadlock:
a root run that has its turn waits for a slot; the only slot belongs to a run that waits for its child; the child waits behind the
root run for its turn. Delegated runs get slots from their parents, so their line always advances (see `capacity`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from a2a_gateway.errors import CapacityExceeded
from a2a_gateway.runs.model import ConversationId, RunRecord


@dataclass(slots=True)
class _Line:
    """The runs that have, or wait for, the turn; the lock wakes them in the order in which they came."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    runs: int = 0

    @property
    def waiting(self) -> int:
        """The number of runs that do not have the turn yet."""
        return max(0, self.runs - 1)


@dataclass(slots=True)
class ConversationQueue:
    """Gives turns on all conversations.

    Attributes:
        limit: root runs that may wait for a turn, at most half of them on one conversation. Delegated runs always may: the
            breadth of their parents bounds their number.
    """

    limit: int = 200
    _lines: dict[tuple[ConversationId, bool], _Line] = field(default_factory=dict)

    @asynccontextmanager
    async def take(self, record: RunRecord) -> AsyncIterator[None]:
        """Give a run the turn on its conversation while the context lasts, after the runs that came before.

        Raises:
            CapacityExceeded: too many wait already.
        """
        is_root = record.parent_id is None
        key = record.conversation_id, is_root
        line = self._lines.setdefault(key, _Line())
        if is_root and line.runs:
            self._require_room(record.conversation_id, line)
        line.runs += 1
        try:
            async with line.lock:
                yield
        finally:
            line.runs -= 1
            if line.runs == 0:
                del self._lines[key]

    def _require_room(self, conversation_id: ConversationId, line: _Line) -> None:
        here, most_here = line.waiting, (self.limit + 1) // 2
        if here >= most_here:
            raise _full(f"{here} requests wait for conversation {conversation_id}, and {most_here} is the limit", most_here)
        everywhere = sum(line.waiting for (_, is_root), line in self._lines.items() if is_root)
        if everywhere >= self.limit:
            raise _full(f"{everywhere} requests wait for conversations, and {self.limit} is the limit", self.limit)


def _full(state: str, limit: int) -> CapacityExceeded:
    return CapacityExceeded(
        f"{state}. Wait for the answers of earlier requests, or begin a new conversation.",
        details={"scope": "conversation", "max_waiting_for_conversation": limit},
        retry_after_s=5,
    )
