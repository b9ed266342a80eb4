"""Leases: the conversation and the directory of a run, which no other run has at the same time.

    run                        acquires, in this order                                           module
    begins a conversation      a slot, its new conversation                                      `capacity`
    continues a conversation   its turn on the conversation, a slot, the conversation            `conversation_queue`
    either                     a directory: fixed, named by the caller, its parent's,            `Workspaces`
                               its conversation's, a new one

The wait for a conversation ends at the run's deadline and when the run is cancelled. A run that would wait for itself is refused
(`wait_graph`). A lease is returned when the run has ended. Its conversation and directory are then kept for `ttl_s`, so that a
caller may continue the conversation.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace

from a2a_gateway.errors import (
    ConversationBusy,
    ConversationNotFound,
    DeadlineExceeded,
    RequestError,
    RunCancelled,
    WorkspaceNotAllowed,
)
from a2a_gateway.runs.conversation_queue import ConversationQueue
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import Conversation, Profile, RunRecord, WorkspacePolicy
from a2a_gateway.runs.ports import Clock, Conversations, Workspaces
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.wait_graph import waits_for_itself
from delegate_tool.protocol.fields import Header


@dataclass(slots=True)
class Lease:
    """A conversation and a directory, leased by one run.

    Attributes:
        is_kept: whether the conversation has been stored for a later run.
    """

    conversation: Conversation
    workspace_dir: str
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Leases:
    """Leases conversations and directories, and removes those that have expired.

    Attributes:
        workspaces_of: finds the directories of a model's site; None where its agents work elsewhere.
        ttl_s: how long a conversation outlives its last run; 0 removes it at once.
        queue: in which runs that continue a conversation wait for it.
    """

    conversations: Conversations
    workspaces_of: Callable[[str], Workspaces | None]
    live_runs: LiveRuns
    clock: Clock
    ttl_s: float
    queue: ConversationQueue = field(default_factory=ConversationQueue)

    async def find_named_dir(self, path: str, caller: Caller, profile: Profile) -> str:
        """Return the resolved path of the directory that a caller names as the workspace.

        Raises:
            WorkspaceNotAllowed: the caller may not name it.
            RequestError: there is no such directory, or callers cannot choose where the agent works.
        """
        if caller.run is not None or caller.grant is not None:
            raise WorkspaceNotAllowed(
                "Only a key may name a workspace. A run that delegates shares its own with agents that inherit it.",
                param=Header.WORKSPACE,
            )
        workspaces = self.workspaces_of(profile.model)
        if workspaces is None or profile.workspace is WorkspacePolicy.FIXED:
            where = "on a peer" if workspaces is None else "in a directory that its profile sets"
            raise RequestError(f"{profile.model} works {where}. Leave the workspace out.", param=Header.WORKSPACE)
        return await workspaces.resolve_named(path, caller.key.workspaces)

    @asynccontextmanager
    async def acquire(
        self,
        live: LiveRun,
        profile: Profile,
        *,
        in_turn: AbstractAsyncContextManager[None] | None,
        named_dir: str | None = None,
    ) -> AsyncIterator[Lease]:
        """Lease a run its conversation and directory while the context lasts, after other runs on the conversation.

        Args:
            in_turn: the slot of a run that continues a conversation, acquired in its turn; None if the run begins one.
            named_dir: see `Intake`.

        Raises:
            RequestError: the conversation works in another directory than the named one, or in one that is gone.
            ConversationNotFound: the conversation does not exist, is another key's, or is one with another agent.
            ConversationBusy: the run that has it waits for this run.
            CapacityExceeded: too many runs wait already, or no slot became free.
            DeadlineExceeded: the run's deadline passed before the conversation was free.
            RunCancelled: the run was cancelled while it waited.
        """
        async with self._begin(live) if in_turn is None else self._continue(live, in_turn) as conversation:
            lease = await self._assign_directory(live, profile, conversation, named_dir)
            live.workspace_dir = lease.workspace_dir
            try:
                yield lease
            finally:
                await self._return(lease)

    async def keep(self, lease: Lease, transcript: str) -> None:
        """Store the conversation for a later run. Done before the answer is published, so that its reader can continue.

        Raises:
            StoreError: the database refused it.
        """
        if self.ttl_s > 0 and transcript:
            now = self.clock.now()
            kept = replace(lease.conversation, transcript=transcript, used_at=now, expires_at=now + self.ttl_s)
            await self.conversations.save(kept)
            lease.is_kept = True

    async def sweep(self) -> None:
        """Remove expired conversations and their directories."""
        for conversation in await self.conversations.expire(self.clock.now()):
            await self._remove_workspace(conversation)

    @asynccontextmanager
    async def _begin(self, live: LiveRun) -> AsyncIterator[Conversation]:
        record, now = live.record, self.clock.now()
        if record.deadline_at <= now:
            raise DeadlineExceeded(
                f"The run's time of {record.limits.timeout_s:g} s was over before it could begin. Ask for more time."
            )
        async with self.queue.take(record), self.conversations.begin(record.conversation_id):
            yield Conversation(record.conversation_id, record.key_id, record.agent, now, now, now + self.ttl_s)

    @asynccontextmanager
    async def _continue(self, live: LiveRun, slot: AbstractAsyncContextManager[None]) -> AsyncIterator[Conversation]:
        record = live.record
        if waits_for_itself(live, self.live_runs):
            raise ConversationBusy(
                f"Conversation {record.conversation_id} belongs to a run that waits, directly or through others, for this one: "
                "it would never be free. Delegate in a new conversation."
            )
        waiting = self._wait_in_turn(record, slot)
        entering = asyncio.ensure_future(waiting.__aenter__())
        cancelling = asyncio.ensure_future(live.cancelled.wait())
        timeout_s = max(0.0, record.deadline_at - self.clock.now())
        await asyncio.wait({entering, cancelling}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        cancelling.cancel()
        if not entering.done():
            entering.cancel()
            await asyncio.wait({entering})
        if entering.cancelled():
            if live.cancelled.is_set():
                raise RunCancelled("The run was cancelled while it waited for its conversation.")
            raise DeadlineExceeded(
                f"The run's time of {record.limits.timeout_s:g} s was over before its conversation was free. "
                "Ask for more time, or begin a new conversation."
            )
        try:
            yield _require_own(entering.result(), record)
        finally:
            await waiting.__aexit__(None, None, None)

    @asynccontextmanager
    async def _wait_in_turn(
        self, record: RunRecord, slot: AbstractAsyncContextManager[None]
    ) -> AsyncIterator[Conversation | None]:
        async with self.queue.take(record), slot, self.conversations.lease(record.conversation_id) as conversation:
            yield conversation

    async def _assign_directory(
        self, live: LiveRun, profile: Profile, conversation: Conversation, named_dir: str | None
    ) -> Lease:
        """Assign the directory in which the run works; see the table above."""
        parent = self.live_runs.get(live.record.parent_id)
        workspaces = self.workspaces_of(live.record.agent)
        if workspaces is None:
            return Lease(conversation, "")
        if profile.workspace is WorkspacePolicy.FIXED and profile.workspace_path is not None:
            return Lease(conversation, await workspaces.ensure(profile.workspace_path))
        if named_dir is not None or conversation.named_dir is not None:
            conversation = await _keep_named_dir(conversation, named_dir, workspaces)
            return Lease(conversation, conversation.named_dir or "")
        if profile.workspace is WorkspacePolicy.INHERIT and parent is not None and parent.workspace_dir is not None:
            return Lease(conversation, parent.workspace_dir)
        if conversation.workspace_dir is None:
            path = await workspaces.create(conversation.id)
            return Lease(replace(conversation, workspace_dir=path), path)
        path = workspaces.locate(conversation.workspace_dir)
        return Lease(replace(conversation, workspace_dir=path), await workspaces.ensure(path))

    async def _return(self, lease: Lease) -> None:
        conversation = lease.conversation
        if lease.is_kept:
            return
        if self.ttl_s > 0 and conversation.transcript:
            await self.keep(lease, conversation.transcript)  # as it was before
        else:
            await self._remove_workspace(conversation)

    async def _remove_workspace(self, conversation: Conversation) -> None:
        workspaces = self.workspaces_of(conversation.agent)
        if workspaces is not None and conversation.workspace_dir is not None:
            await workspaces.remove(workspaces.locate(conversation.workspace_dir))


async def _keep_named_dir(conversation: Conversation, named_dir: str | None, workspaces: Workspaces) -> Conversation:
    """Return the conversation with the directory that its first caller named, as long as that is where it was."""
    is_new = not conversation.transcript
    kept = named_dir if is_new else conversation.named_dir
    if kept is None or named_dir not in (None, kept):
        raise RequestError(
            f"Conversation {conversation.id} works in {'a workspace of its own' if kept is None else repr(kept)}. "
            "Leave the workspace out, or begin a new conversation.",
            param=Header.WORKSPACE,
        )
    if await workspaces.resolve_named(kept, [kept]) != kept:  # since it was allowed, it may have been replaced
        raise WorkspaceNotAllowed(f"{kept!r} is a link now. Name the directory itself.", param=Header.WORKSPACE)
    return replace(conversation, named_dir=kept)


def _require_own(found: Conversation | None, record: RunRecord) -> Conversation:
    if found is None or found.owner != record.key_id:
        raise ConversationNotFound(
            f"There is no conversation {record.conversation_id}: it never existed, or has expired. "
            "Leave it out to begin a new one."
        )
    if found.agent != record.agent:
        raise ConversationNotFound(
            f"Conversation {found.id} is one with {found.agent}, not with {record.agent}. "
            "Call the same model, or leave it out to begin a new one."
        )
    return found
