"""Conversations: durable histories, each used by one run at a time. Implements `runs.ports.Conversations`.

The conversations are in the database. Their leases are in this process's memory, because a run never outlives the process.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from a2a_gateway.errors import InternalError
from a2a_gateway.runs.model import Conversation, ConversationId
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.rows import conversation_of, values_of_conversation
from a2a_gateway.stores.schema import conversations

_BY_ID: Final = select(conversations).where(conversations.c.id == bindparam("conversation_id"))
_SAVE: Final = {
    dialect: statement.on_conflict_do_update(
        index_elements=[conversations.c.id],
        set_={column.name: statement.excluded[column.name] for column in conversations.c if not column.primary_key},
    )
    for dialect, statement in (("sqlite", sqlite.insert(conversations)), ("postgresql", postgresql.insert(conversations)))
}
_WORKSPACE_DIRS: Final = select(conversations.c.workspace_dir).where(conversations.c.workspace_dir.is_not(None))
_EXPIRED: Final = select(conversations.c.id).where(conversations.c.expires_at <= bindparam("now")).order_by("expires_at")
_DELETE_EXPIRED: Final = (
    delete(conversations)
    .where(conversations.c.id == bindparam("conversation_id"), conversations.c.expires_at <= bindparam("now"))
    .returning(conversations)
)


@dataclass(slots=True)
class _Queue:
    """The number of runs that have, or wait for, one conversation. asyncio's lock wakes them in order."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    runs: int = 0


@dataclass(frozen=True, slots=True)
class SqlConversations:
    """The conversations in a database."""

    database: Database
    _queues: dict[ConversationId, _Queue] = field(default_factory=dict)

    @asynccontextmanager
    async def lease(self, conversation_id: ConversationId) -> AsyncIterator[Conversation | None]:
        """Lease a conversation to one run, after the runs that came before. Yield None if it does not exist yet."""
        async with self._turn(conversation_id):
            yield await self._find(conversation_id)

    @asynccontextmanager
    async def begin(self, conversation_id: ConversationId) -> AsyncIterator[None]:
        """Lease a conversation that is not stored yet. No other run knows its id."""
        async with self._turn(conversation_id):
            yield

    @property
    def leased(self) -> frozenset[ConversationId]:
        """The conversations that a run has leased or waits for."""
        return frozenset(self._queues)

    async def save(self, conversation: Conversation) -> None:
        """Store or replace a conversation. The caller must have its lease."""
        queue = self._queues.get(conversation.id)
        if queue is None or not queue.lock.locked():
            raise InternalError(f"Conversation {conversation.id} was saved by a run that has not leased it.")
        values = values_of_conversation(conversation)

        def work(connection: Connection) -> None:
            connection.execute(_SAVE[connection.dialect.name], values)

        await self.database.transaction(work)

    async def workspace_dirs(self) -> frozenset[str]:
        """Return the workspace directories of all stored conversations."""
        return await self.database.transaction(lambda connection: frozenset(connection.scalars(_WORKSPACE_DIRS)))

    async def expire(self, now: float) -> Sequence[Conversation]:
        """Remove the conversations that have expired and are not leased. Return them, so that their workspaces can be removed."""

        def find(connection: Connection) -> Sequence[ConversationId]:
            return list(connection.scalars(_EXPIRED, {"now": now}))

        removed = []
        for conversation_id in await self.database.transaction(find):
            if conversation_id in self.leased:
                continue
            async with self._turn(conversation_id):
                if (conversation := await self._remove(conversation_id, now)) is not None:
                    removed.append(conversation)
        return removed

    @asynccontextmanager
    async def _turn(self, conversation_id: ConversationId) -> AsyncIterator[None]:
        queue = self._queues.setdefault(conversation_id, _Queue())
        queue.runs += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.runs -= 1
            if queue.runs == 0:
                del self._queues[conversation_id]

    async def _find(self, conversation_id: ConversationId) -> Conversation | None:
        def work(connection: Connection) -> Conversation | None:
            row = connection.execute(_BY_ID, {"conversation_id": conversation_id}).one_or_none()
            return None if row is None else conversation_of(row)

        return await self.database.transaction(work)

    async def _remove(self, conversation_id: ConversationId, now: float) -> Conversation | None:
        """Remove a conversation unless a run has used it since it was found expired."""

        def work(connection: Connection) -> Conversation | None:
            row = connection.execute(_DELETE_EXPIRED, {"conversation_id": conversation_id, "now": now}).one_or_none()
            return None if row is None else conversation_of(row)

        return await self.database.transaction(work)
