"""What the core needs of others, as Protocols. Implementers satisfy them structurally and import only `runs`.

The Runner seam is narrow and serialisable: an `AdmittedRun` in, `RunnerEvent`s out, a cancel, a meter around each LLM call. So an
agent can run in this process, in a confined worker, or on another machine.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from a2a_gateway.runs.events import RunnerEvent, RunSummary
from a2a_gateway.runs.model import (
    AdmittedRun,
    Conversation,
    ConversationId,
    KeyId,
    KeyRecord,
    LimitPolicy,
    Limits,
    Profile,
    ProfileProblem,
    RunId,
    RunRecord,
    RunState,
    TokenUsage,
)


class Clock(Protocol):
    """Time as a dependency, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave to make one LLM call; must end in exactly one `Meter.settle`, whatever happens to the call."""

    id: str
    run_id: RunId
    reserved_micro_usd: int = 0


class Meter(Protocol):
    """Asked before, and told after, each LLM call of one run, side calls included."""

    async def reserve(self) -> Hold:
        """Get leave for one LLM call.

        Raises:
            BudgetExceeded: the run or an ancestor, or the key, has spent its budget.
            DeadlineExceeded: the run's deadline has passed.
            RunCancelled: the run is no longer live.
        """
        ...

    async def settle(self, hold: Hold, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        """Book what the call used. `cost_micro_usd` None means unknown price; idempotent for one hold."""
        ...


class Runner(Protocol):
    """Executes admitted runs."""

    def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """Execute a run; the last event is `RunEnded`.

        Closing the iterator early (`aclose`) or cancelling the task that iterates stops the agent, its tools and its LLM call
        within milliseconds, and releases everything before it returns. Failures of the agent are outcomes, not exceptions.
        """
        ...

    async def cancel(self, run_id: RunId) -> None:
        """Stop a run from outside its iterator; it then ends with `Cancelled`. Unknown ids are ignored."""
        ...


class Profiles(Protocol):
    """The catalogue of agents. Reloads by itself when a file changes."""

    def get(self, name: str) -> Profile:
        """Find a profile by name (without prefix).

        Raises:
            ModelNotFound: there is none, or it is broken (the message says why).
        """
        ...

    def list(self) -> Sequence[Profile]:
        """All profiles that work, by name."""
        ...

    def problems(self) -> Sequence[ProfileProblem]:
        """What could not be loaded, and why."""
        ...


@dataclass(frozen=True, slots=True)
class RunProposal:
    """A run that asks to be opened.

    Attributes:
        parent_id: the run whose token was presented; None starts a tree.
        key_id: the key behind it all; for a child, that of its tree's root.
        policies: what profile and key allow and the request asks; each can only narrow.
        defaults: limits of a root run before anything narrows it (the server's policy).
        claimed_depth: depth that a foreign caller claims; can only raise the real one.
    """

    id: RunId
    parent_id: RunId | None
    key_id: KeyId
    agent: str
    task_hash: str
    conversation_id: ConversationId
    defaults: Limits
    policies: tuple[LimitPolicy, ...] = ()
    claimed_depth: int | None = None


class Ledger(Protocol):
    """The truth about runs and money. Every method is one transaction."""

    async def open_run(self, proposal: RunProposal) -> RunRecord:
        """Decide, with `admission.admit`, whether a run may start, and record it as queued.

        Raises:
            AdmissionError: it may not.
            RunTokenRevoked: its parent is no longer live.
        """
        ...

    async def start_run(self, run_id: RunId) -> RunRecord:
        """Mark a queued run as running.

        Raises:
            RunCancelled: it was cancelled meanwhile.
        """
        ...

    async def reserve(self, run_id: RunId) -> Hold:
        """See `Meter.reserve`."""
        ...

    async def settle(self, hold: Hold, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        """See `Meter.settle`; charges the run, all its ancestors and the key in one transaction, also when the run has ended."""
        ...

    async def close_run(self, run_id: RunId, state: RunState, *, stop_reason: str, error_code: str | None = None) -> RunSummary:
        """End a live run; ending one that has ended changes nothing. Either way the final summary is returned."""
        ...

    async def get_run(self, run_id: RunId) -> RunRecord | None: ...

    async def summary(self, run_id: RunId) -> RunSummary | None: ...

    async def subtree(self, run_id: RunId) -> Sequence[RunRecord]:
        """The run and all its descendants, parents before children, oldest first; empty if there is no such run."""
        ...

    async def recent_runs(self, key_id: KeyId | None, limit: int) -> Sequence[RunRecord]:
        """Newest root runs first; of one key, or of all."""
        ...

    async def mark_lost(self) -> int:
        """After a crash: end every run still recorded as live as `lost`; returns how many there were."""
        ...


class Keys(Protocol):
    """Long-lived secrets of people and programs."""

    async def authenticate(self, secret: str) -> KeyRecord:
        """Find the key that a secret belongs to, in constant time.

        Raises:
            AuthenticationError: unknown or revoked.
        """
        ...

    async def get_key(self, key_id: KeyId) -> KeyRecord | None: ...


class Conversations(Protocol):
    """Durable histories. A conversation is used by one run at a time."""

    def lease(self, conversation_id: ConversationId) -> AbstractAsyncContextManager[Conversation | None]:
        """Hold a conversation for one run, waiting for the run that has it; yields None if it does not exist yet."""
        ...

    async def save(self, conversation: Conversation) -> None:
        """Store or replace a conversation. Only while its lease is held."""
        ...

    async def expire(self, now: float) -> Sequence[Conversation]:
        """Remove the conversations whose time has passed and that no run has leased; returns them, for their workspaces."""
        ...


class Workspaces(Protocol):
    """Directories in which agents work. Nothing but an agent's own tools opens a file in one."""

    async def create(self, conversation_id: ConversationId) -> str:
        """Make an empty private directory and return its path."""
        ...

    async def ensure(self, path: str) -> str:
        """Make a directory named by a profile if it does not exist, and return its resolved path."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a directory made by `create`; a missing one is ignored, any other path refused."""
        ...


class RunTokens(Protocol):
    """Short-lived secrets, one a run."""

    def mint(self, record: RunRecord) -> str:
        """Make the token that names this run."""
        ...
