"""What the core needs of others, as Protocols. Implementers satisfy them structurally and import only `runs`.

The Runner seam is narrow and serialisable: an `AdmittedRun` in, `RunnerEvent`s out, a cancel, a meter around each LLM call. So an
agent can run in this process, in a confined worker, or on another machine.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from a2a_gateway.runs.events import RunnerEvent, RunSummary
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import (
    AdmittedRun,
    CallQuote,
    Conversation,
    ConversationId,
    Grant,
    IdempotencyClaim,
    KeyId,
    KeyRecord,
    LimitPolicy,
    Limits,
    Profile,
    ProfileProblem,
    RunId,
    RunRecord,
    RunState,
    SpendCaps,
    TokenUsage,
)


class Clock(Protocol):
    """Time as a dependency, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds since the epoch that pass evenly, whatever is done to the machine's clock: for deadlines, ages and order."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch as the machine tells them now: for the day on which money is spent, and for other machines."""
        ...


class SettableClock(Clock, Protocol):
    """A clock that whoever knows that no deadline is under way may set right."""

    def set_right(self) -> None:
        """Let `now` jump to what the machine's clock tells."""
        ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave to make one LLM call, or one call to a peer; must end in exactly one `Meter.settle`, whatever happens to the call.

    Attributes:
        reserved_micro_usd: set aside for it; 0 where nobody set a budget.
        presumed_micro_usd: what it is charged if this process dies before it is settled; more is recorded as the call goes on.
        max_output_tokens: the most that the call may produce; not more than was asked, and less where the budget needs it.
        last: the budget allows no call after this one: the agent must wrap up.
        budget_micro_usd: the budget that binds most; None where nobody set one.
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
        cost_micro_usd: None where no price is known.
        complete: False where `cost_micro_usd` is known not to be all, or is an estimate.
        turns: LLM calls of the run; a side call is none.
        runs: descendants of a run on a peer.
        final: False where the truth may yet be learnt: the hold then stays, to be settled once more.
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
    """Asked before, and told after, each LLM call of one run, side calls included."""

    async def reserve(self, quote: CallQuote) -> Hold:
        """Get leave for one LLM call, with the money that it may cost set aside; waits while only other calls stand in its way.

        Raises:
            BudgetExceeded: not even one last short call fits what the run, its ancestors, its profile and its key have left.
            ModelUnpriced: there is a budget, and no price.
            DeadlineExceeded: the run's deadline has passed.
            RunCancelled: the run is no longer live.
        """
        ...

    async def escrow(self) -> Hold:
        """Set aside all that the run may spend, for a peer that executes it; waits, and raises, as `reserve` does."""
        ...

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """Ask now and then, until the hold is settled, what its call has used so far: a crash then charges that."""
        ...

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """Book what the call used and give back the rest; idempotent for one hold."""
        ...

    async def note_remote(self, remote_run_id: str) -> None:
        """Record the peer's id of the run, so that its cost can be asked for after a crash."""
        ...


class Runner(Protocol):
    """Executes admitted runs, in this process or elsewhere: what crosses this port is plain data that survives a pickle.

    `tests/interaction/test_runner_contract.py` tries what follows on every runner.
    """

    def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """Execute a run; the last event, and only that, is `RunEnded`.

        Closing the iterator early (`aclose`) or cancelling the task that iterates stops the agent, its tools and its LLM call
        within milliseconds, and releases everything before it returns. When `timeout_s` has passed, the run ends as `Limited`
        with what it has written. Every hold is settled before the last event. Failures of the agent are outcomes; only a run
        that could not begin raises its `GatewayError`.
        """
        ...

    async def cancel(self, run_id: RunId) -> None:
        """Stop a run from outside its iterator; it then ends with `Cancelled`. Unknown ids are ignored."""
        ...


class Profiles(Protocol):
    """The catalogue of agents. Reloads by itself when a file changes."""

    def get(self, model: str) -> Profile:
        """Find a profile by the model id under which it is served.

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
        caps: what all runs of the agent may cost together.
        starts: it has nothing to wait for once it is admitted.
        on_peer: a peer is to execute it.
        claim: idempotency key of the request, if it has one.
        grant: of the peer that asks, used up when the run is opened.
        trail: marks of the runs that led here, those on other gateways included.
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
    caps: SpendCaps = field(default_factory=SpendCaps)
    starts: bool = False
    on_peer: bool = False
    claim: IdempotencyClaim | None = None
    grant: Grant | None = None
    trail: tuple[str, ...] = ()


class Ledger(Protocol):
    """The truth about runs and money. Every method is one transaction."""

    async def open_run(self, proposal: RunProposal) -> RunRecord:
        """Decide, with `admission.admit`, whether a run may start, and record it: as queued, or as running if it `starts`.

        Returns the record of an earlier run instead, whose id is another, where the proposal's idempotency claim is that run's;
        its grant is used up by `claimed` then.

        Raises:
            IdempotencyKeyReused: the claim's key belongs to a request that asked for something else.
            AuthenticationError: the grant was used before.
            AdmissionError: it may not.
            RunTokenRevoked: its parent is no longer live.
        """
        ...

    async def claimed(self, claim: IdempotencyClaim, grant: Grant | None = None) -> RunRecord | None:
        """The run that a claim stands for already, which uses up the grant that asks for it; None if the claim is free.

        Raises:
            IdempotencyKeyReused: the key belongs to a request that asked for something else.
            AuthenticationError: the grant was used before.
        """
        ...

    async def run_of_claim(self, scope: str, key: str) -> RunRecord | None:
        """The run of an idempotency key, whatever it asked for."""
        ...

    async def start_run(self, run_id: RunId) -> RunRecord:
        """Mark a queued run as running.

        Raises:
            RunCancelled: it was cancelled meanwhile.
        """
        ...

    async def reserve(self, run_id: RunId, quote: CallQuote, caps: SpendCaps = ...) -> Hold:
        """See `Meter.reserve`, but never waits. `caps` are those of the run's profile, as they stand now.

        Raises:
            BudgetHeld: it would fit if calls under way cost nothing.
        """
        ...

    async def escrow(self, run_id: RunId, caps: SpendCaps = ...) -> Hold:
        """See `Meter.escrow`."""
        ...

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """See `Meter.settle`; charges the run, all its ancestors, its key and its profile in one transaction, also when it has
        ended. A hold that a crash left behind was charged an estimate: settling it then corrects that."""
        ...

    async def presume(self, used_micro_usd: Mapping[str, int]) -> None:
        """Record what a crash would charge for calls under way, by the ids of their holds; settled ones are skipped."""
        ...

    async def note_remote(self, run_id: RunId, remote_run_id: str) -> None:
        """See `Meter.note_remote`."""
        ...

    async def unreconciled(self) -> Sequence[tuple[RunRecord, Hold]]:
        """Runs on peers whose cost is not known for sure, since this gateway or the peer broke off in the middle."""
        ...

    async def close_run(
        self,
        run_id: RunId,
        state: RunState,
        *,
        stop_reason: str,
        error_code: str | None = None,
        answer: str | None = None,
        caps: SpendCaps = ...,
    ) -> RunSummary:
        """End a live run; ending one that has ended changes nothing. Either way the final summary is returned.

        `caps` are those of the run's profile. `answer` is opaque text, kept for `answer_of` as long as the run's idempotency
        claim, at least for a day.
        """
        ...

    async def answer_of(self, run_id: RunId) -> str | None:
        """What `close_run` was given to keep; None if nothing, or no longer."""
        ...

    async def run_of_origin(self, key_id: KeyId, origin: str) -> RunRecord | None:
        """The run that was opened for a run on a peer; see `RunRecord.origin`."""
        ...

    async def get_run(self, run_id: RunId) -> RunRecord | None: ...

    async def summary(self, run_id: RunId, caps: SpendCaps = ...) -> RunSummary | None:
        """What a run has cost by now; what it has left heeds the `caps` of its profile."""
        ...

    async def subtree(self, run_id: RunId) -> Sequence[RunRecord]:
        """The run and all its descendants, parents before children, oldest first; empty if there is no such run."""
        ...

    async def recent_runs(self, key_id: KeyId | None, limit: int) -> Sequence[RunRecord]:
        """Newest root runs first; of one key, or of all."""
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

    async def revoked(self, key_ids: Collection[KeyId]) -> Sequence[KeyRecord]:
        """Those of the keys that were revoked."""
        ...

    async def of_peer(self, peer_id: str, policy: LimitPolicy, caps: SpendCaps, limits: RequestLimits = ...) -> KeyRecord:
        """The account of a peer that presents grants, with the limits that hold for it now.

        Raises:
            AuthenticationError: its grants are not taken any more.
        """
        ...


class Conversations(Protocol):
    """Durable histories. A conversation is used by one run at a time."""

    def lease(self, conversation_id: ConversationId) -> AbstractAsyncContextManager[Conversation | None]:
        """Hold a conversation for one run, waiting for the run that has it; yields None if it does not exist yet."""
        ...

    def begin(self, conversation_id: ConversationId) -> AbstractAsyncContextManager[None]:
        """Hold a conversation that this run begins: its id is new, so there is nothing to find, and nobody to wait for."""
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
        """Make a directory if it does not exist, and return its resolved path."""
        ...

    def locate(self, path: str) -> str:
        """Say where a directory made by `create` is now: all of them may have been moved while no gateway ran."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a directory made by `create`; a missing one is ignored, any other path refused."""
        ...

    async def sweep(self, keep: Collection[str]) -> int:
        """Remove all directories made by `create` but those to `keep`; returns how many. Only while no run is live."""
        ...


class RunTokens(Protocol):
    """Short-lived secrets, one a run."""

    def mint(self, record: RunRecord) -> str:
        """Make the token that names this run."""
        ...
