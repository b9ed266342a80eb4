"""The ports of the core: what it needs of others, as Protocols. Implementers satisfy them structurally and import only `runs`.

The `Runner` is a narrow seam of plain data: an `AdmittedRun` in, `RunnerEvent`s out, a cancel, a meter around each LLM call. So
an agent can run in this process, in a confined worker, or on another machine.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from a2a_gateway.runs.events import RunnerEvent, RunSummary
from a2a_gateway.runs.journal import JournalEnd
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import (
    AdmittedRun,
    CallQuote,
    Conversation,
    ConversationId,
    Grant,
    IdempotencyKey,
    KeyId,
    KeyRecord,
    Profile,
    ProfileProblem,
    RunId,
    RunRecord,
    RunState,
    SpendCaps,
    TokenUsage,
)
from a2a_gateway.runs.run_queries import RunQueries
from delegate_tool.protocol.limits import LimitPolicy


class Clock(Protocol):
    """Time as a dependency, so that tests control it."""

    def now(self) -> float:
        """Return seconds since the epoch that pass evenly, even if the machine's clock is set: for deadlines, ages and order."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch by the machine's clock: for the day on which money is spent, and for other machines."""
        ...


class SettableClock(Clock, Protocol):
    """A clock that may be corrected while no deadline depends on it."""

    def synchronise(self) -> None:
        """Set `now` to the machine's clock."""
        ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one LLM call, or one run on a peer; settled exactly once, whatever happens to the call.

    Attributes:
        reserved_micro_usd: set aside for the call; 0 if the call has no price.
        presumed_micro_usd: charged if this process dies before it is settled; updated while the call lasts.
        max_output_tokens: the most that the call may produce: what was requested, or less where the budget needs it.
        last: the budget allows no call after this one, so the agent must conclude.
        budget_micro_usd: the tightest budget; without a budget, None.
        left_micro_usd: what was left of it before this call.
    """

    id: str
    run_id: RunId
    reserved_micro_usd: int = 0
    max_output_tokens: int | None = None
    last: bool = False
    budget_micro_usd: int | None = None
    left_micro_usd: int | None = None
    presumed_micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call used, to be booked.

    Attributes:
        cost_micro_usd: None if no price is known.
        complete: False if `cost_micro_usd` is a part of the cost, or an estimate.
        turns: LLM calls of the run to count; 0 for a side call.
        runs: descendants of a run on a peer to count.
        final: False if the cost may be reconciled later: the hold then stays, to be settled once more.
    """

    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_micro_usd: int | None = 0
    complete: bool = True
    turns: int = 1
    runs: int = 0
    final: bool = True

    @property
    def is_nothing(self) -> bool:
        """Whether the call was never made, or refused before it used anything."""
        return self.usage == TokenUsage() and not self.cost_micro_usd and self.complete and self.final


class Meter(Protocol):
    """Reserves money before each LLM call of one run, side calls included, and settles it afterwards."""

    async def reserve(self, quote: CallQuote) -> Hold:
        """Set money aside for one LLM call; waits while only the holds of other calls prevent it.

        Raises:
            BudgetExceeded: not even one last short call fits what the run, its ancestors, its profile and its key have left.
            ModelUnpriced: there is a budget, and no price.
            DeadlineExceeded: the run's deadline has passed.
            RunCancelled: the run is no longer live.
        """
        ...

    async def escrow(self) -> Hold:
        """Set aside all that the run may spend, for a peer that executes it; waits and raises as `reserve` does."""
        ...

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """Read periodically, until the hold is settled, what its call has used so far: a crash charges that."""
        ...

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """Book what the call used and release the rest; idempotent for one hold."""
        ...

    async def note_remote(self, remote_run_id: str) -> None:
        """Record the peer's id of the run, so that its cost can be reconciled after a crash."""
        ...


class Runner(Protocol):
    """Executes admitted runs, in this process or elsewhere: what crosses this port is plain data that survives a pickle.

    `tests/interaction/test_runner_contract.py` runs on every runner.
    """

    def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """Execute a run; the last event, and only that, is `RunEnded`.

        Closing the iterator early (`aclose`), or cancelling the task that iterates, interrupts the agent, its tools and its LLM
        call within milliseconds, and returns when all is released. When `timeout_s` has passed, the run ends as `Limited` with
        the text so far. Every hold is settled before the last event. Failures of the agent are outcomes; only a run that could
        not begin raises its `GatewayError`.
        """
        ...

    async def cancel(self, run_id: RunId) -> None:
        """Interrupt a run from outside its iterator; it then ends with `Cancelled`. Unknown ids are ignored."""
        ...


class Profiles(Protocol):
    """The profiles that are served; files that change are loaded again."""

    def get(self, model: str) -> Profile:
        """Find a profile by the model id under which it is served.

        Raises:
            ModelNotFound: no profile has this id, or it is broken; the message states why.
        """
        ...

    def list(self) -> Sequence[Profile]:
        """List the profiles that work, by name."""
        ...

    def problems(self) -> Sequence[ProfileProblem]:
        """List what could not be loaded, and why."""
        ...


@dataclass(frozen=True, slots=True)
class RunProposal:
    """A run that is to be opened.

    Attributes:
        parent_id: the run whose token was presented; a root has None.
        key_id: the key that is charged; for a child, that of its tree's root.
        policies: what the profile, the request and the grant allow; each can only narrow.
        defaults: the server's limits for a root run, before anything narrows them.
        stated_depth: depth that a request or a grant states; can only raise the real one.
        caps: what all runs of the agent may cost together.
        starts: whether it begins a conversation, and so need not wait for another run on it.
        on_peer: whether a peer executes it.
        idempotency_key: of the request, or the run id of a peer's; None without either.
        grant: of a peer, used up when the run is opened.
        trail: marks of the runs that led to it, on other gateways too.
        task: kept in its journal; None if nothing of it is kept.
    """

    id: RunId
    parent_id: RunId | None
    key_id: KeyId
    agent: str
    task_hash: str
    conversation_id: ConversationId
    defaults: Limits
    policies: tuple[LimitPolicy, ...] = ()
    stated_depth: int | None = None
    caps: SpendCaps = field(default_factory=SpendCaps)
    starts: bool = False
    on_peer: bool = False
    idempotency_key: IdempotencyKey | None = None
    grant: Grant | None = None
    trail: tuple[str, ...] = ()
    task: KeptText | None = None


class Ledger(RunQueries, Protocol):
    """The record of runs and money. Every method is one transaction."""

    async def open_run(self, proposal: RunProposal) -> RunRecord:
        """Decide, with `admission.admit`, whether a run may start, and record it: as queued, or as running if it `starts`.

        If the proposal's idempotency key has a run already, returns the record of that run, which has another id.
        The grant is then used up by `find_run_of_key`.

        Raises:
            IdempotencyKeyReused: the key belongs to a request that asked for something else.
            AuthenticationError: the grant was used before.
            AdmissionError: a limit refuses the run.
            RunTokenRevoked: its parent is no longer live.
        """
        ...

    async def find_run_of_key(self, key: IdempotencyKey, grant: Grant | None = None) -> RunRecord | None:
        """Return the run of an idempotency key, and use up the grant; None if the key has no run.

        Raises:
            IdempotencyKeyReused: the key belongs to a request that asked for something else.
            AuthenticationError: the grant was used before.
        """
        ...

    async def start_run(self, run_id: RunId) -> RunRecord:
        """Mark a queued run as running.

        Raises:
            RunCancelled: the run has ended meanwhile.
        """
        ...

    async def reserve(self, run_id: RunId, quote: CallQuote, caps: SpendCaps = ...) -> Hold:
        """See `Meter.reserve`, but never waits. `caps` are the present ones of the run's profile.

        Raises:
            BudgetHeld: it would fit if calls under way cost nothing.
        """
        ...

    async def escrow(self, run_id: RunId, caps: SpendCaps = ...) -> Hold:
        """See `Meter.escrow`."""
        ...

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """See `Meter.settle`; charges the run, all its ancestors, its key and its profile in one transaction, also after its end.
        A hold that a crash left behind was charged an estimate: settling it corrects that."""
        ...

    async def presume(self, used_micro_usd: Mapping[str, int]) -> None:
        """Record what a crash would charge for calls under way, by the ids of their holds; skips settled ones."""
        ...

    async def note_remote(self, run_id: RunId, remote_run_id: str) -> None:
        """See `Meter.note_remote`."""
        ...

    async def list_unreconciled(self) -> Sequence[tuple[RunRecord, Hold]]:
        """List the runs on peers whose cost is presumed, because this gateway or the peer broke off, with their holds."""
        ...

    async def close_run(
        self,
        run_id: RunId,
        state: RunState,
        *,
        stop_reason: str,
        error_code: str | None = None,
        answer: str | None = None,
        journal: JournalEnd | None = None,
        caps: SpendCaps = ...,
    ) -> RunSummary:
        """End a live run, and return its final summary; ending a run that has ended changes nothing.

        `caps` are those of the run's profile. `answer` is opaque text (`kept_outcome`), kept for `answer_of` as long as the run's
        idempotency key. `journal` completes the journal that `open_run` began.
        """
        ...


class Keys(Protocol):
    """Long-lived secrets of people and programs."""

    async def authenticate(self, secret: str) -> KeyRecord:
        """Return the key of a secret, in constant time.

        Raises:
            AuthenticationError: the secret is unknown, or its key was revoked.
        """
        ...

    async def get_key(self, key_id: KeyId) -> KeyRecord | None: ...

    async def list_revoked(self, key_ids: Collection[KeyId]) -> Sequence[KeyRecord]:
        """List those of the keys that were revoked."""
        ...

    async def of_peer(self, peer_id: str, policy: LimitPolicy, caps: SpendCaps, limits: RequestLimits = ...) -> KeyRecord:
        """Return the key of a peer that presents grants, with the present limits of the peer.

        Raises:
            AuthenticationError: its grants are no longer accepted.
        """
        ...


class Conversations(Protocol):
    """Durable histories. A conversation is used by one run at a time."""

    def lease(self, conversation_id: ConversationId) -> AbstractAsyncContextManager[Conversation | None]:
        """Lease a conversation to one run, after the run that has it; yields None if it does not exist."""
        ...

    def begin(self, conversation_id: ConversationId) -> AbstractAsyncContextManager[None]:
        """Lease a conversation that a run begins: its id is new, so there is nothing to read, and no run to wait for."""
        ...

    async def save(self, conversation: Conversation) -> None:
        """Store or replace a conversation. Only while its lease is held."""
        ...

    async def expire(self, now: float) -> Sequence[Conversation]:
        """Remove the expired conversations that no run has leased, and return them, for their workspaces."""
        ...


class Workspaces(Protocol):
    """Directories in which agents work. Only an agent's own tools open files in them."""

    async def create(self, conversation_id: ConversationId) -> str:
        """Make an empty private directory and return its path."""
        ...

    async def ensure(self, path: str) -> str:
        """Make a directory if it does not exist, and return its resolved path."""
        ...

    async def resolve_named(self, path: str, allowed: Sequence[str]) -> str:
        """Return the resolved path of an existing directory that a caller names, in one of those allowed."""
        ...

    def locate(self, path: str) -> str:
        """Return where a directory made by `create` is now: all of them may have been moved while no gateway ran."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a directory made by `create`; ignores a missing one, and refuses any other path."""
        ...

    async def sweep(self, keep: Collection[str]) -> int:
        """Remove all directories made by `create` but those to `keep`; returns how many. Only while no run is live."""
        ...


class RunTokens(Protocol):
    """Short-lived secrets, one for each run."""

    def mint(self, record: RunRecord) -> str:
        """Make the token that names this run."""
        ...
