"""The model of runs: ids, limits, profiles, requests, records, states. Plain frozen data; decides nothing, does no I/O.

Money is integer micro-USD, instants are seconds since the epoch (`_at`), durations are seconds (`_s`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final, Literal, NewType

from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.messages import AnswerFormat, Message, Sampling
from delegate_tool.protocol.context import DelegationBinding, DelegationContext, Narration
from delegate_tool.protocol.limits import LimitPolicy
from delegate_tool.protocol.values import MODEL_PREFIX

RunId = NewType("RunId", str)
TreeId = NewType("TreeId", str)
KeyId = NewType("KeyId", str)
ConversationId = NewType("ConversationId", str)


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    LIMITED = "limited"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


LIVE_STATES: Final = frozenset({RunState.QUEUED, RunState.RUNNING})

TRANSITIONS: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED, RunState.LOST}),
    RunState.RUNNING: frozenset(RunState) - LIVE_STATES,
    **{state: frozenset() for state in frozenset(RunState) - LIVE_STATES},
}
"""The states that may follow each state. A state that is not live is final."""


class WorkspacePolicy(StrEnum):
    INHERIT = "inherit"
    ISOLATED = "isolated"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class SpendCaps:
    """What all trees of a key, or all runs of a profile, may cost together; None means unlimited. Days and months are UTC."""

    total_micro_usd: int | None = None
    day_micro_usd: int | None = None
    month_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class CallQuote:
    """What one LLM call may cost at most, before it is made.

    Attributes:
        prompt_tokens: an upper estimate.
        max_output_tokens: the most that the call may produce if nothing lowers it.
        usd_per_prompt_token: like `usd_per_output_token`, None if no price is known.
        sent_micro_usd: estimated cost once the call is sent: of its prompt, and of output that is not streamed. If None, a crash
            charges the whole hold.
        is_turn: False for a side call, which may not use what is kept back for the last call.
    """

    prompt_tokens: int
    max_output_tokens: int
    usd_per_prompt_token: Decimal | None = None
    usd_per_output_token: Decimal | None = None
    sent_micro_usd: int | None = None
    is_turn: bool = True


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An idempotency key, with the request that is to be carried out once.

    Attributes:
        scope: see `Caller.scope`.
        fingerprint: see `RunRequest.fingerprint`.
        expires_at: after this instant the key and its kept outcome may be deleted, if the run has ended.
    """

    scope: str
    key: str
    fingerprint: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A peer's verified permission to run one agent here: see "Between gateways" in docs/protocol.md.

    Attributes:
        issuer: gateway id of the peer.
        run_id: the peer's own id of the run that it opened for this call.
        tree_id: id of the peer's tree, for the audit.
        jti: single use, per issuer.
        expires_at: after this instant it is invalid, and need no longer be recorded as used.
        agent: the model for which it is valid.
        depth: of the run in the peer's tree.
        policy: the limits that the peer sets.
        actors: the agents that led to the run, root first; for the audit.
    """

    issuer: str
    run_id: str
    tree_id: str
    jti: str
    expires_at: float
    agent: str
    depth: int
    policy: LimitPolicy
    actors: tuple[str, ...] = ()


type PriceSource = Literal["configured", "litellm", "local", "assumed"]
"""Where the price of an LLM comes from: its own settings, LiteLLM's price map, a local server, or `unpriced_usd_per_mtok`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A named recipe of an agent, as far as the core needs it.

    Attributes:
        name: without the `openhands_` prefix.
        tools: names of the tools that its agent has, the delegation tool included.
        mcp_servers: names of the MCP servers whose tools it has, too.
        may_delegate: whether the delegation tool is among them.
        workspace_path: directory for `WorkspacePolicy.FIXED`, else None.
        source: where it was loaded from, for messages.
        caps: what its runs may cost together, whichever key starts them.
        price_source: where the price of its LLM's tokens comes from; None for a peer's profile, or if it is not known.
        is_priced: whether a price is known; without a price no budget can be enforced.
        peer: id of the peer that runs it; for a profile of this gateway, None.
    """

    name: str
    description: str
    source: str
    llm_model: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    vision: bool = False
    tools: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    may_delegate: bool = False
    policy: LimitPolicy = field(default_factory=LimitPolicy)
    workspace: WorkspacePolicy = WorkspacePolicy.INHERIT
    workspace_path: str | None = None
    narration: Narration = Narration.LIVE
    caps: SpendCaps = field(default_factory=SpendCaps)
    price_source: PriceSource | None = None
    is_priced: bool = True
    peer: str | None = None

    def has_budget(self, default_micro_usd: int | None) -> bool:
        """Return whether a budget bounds each of its runs: the default one, or one of its own."""
        caps = self.caps
        budgets = (
            default_micro_usd,
            self.policy.budget_micro_usd,
            caps.total_micro_usd,
            caps.day_micro_usd,
            caps.month_micro_usd,
        )
        return any(budget is not None for budget in budgets)

    @property
    def model(self) -> str:
        """The model id under which the profile is served: `openhands_{name}`, or `{peer}/{name}`."""
        return MODEL_PREFIX + self.name if self.peer is None else f"{self.peer}/{self.name}"


type ProblemTopic = Literal["profile", "price"]


@dataclass(frozen=True, slots=True)
class ProfileProblem:
    """What is wrong with a profile, and where (`path`, 1-based `line` if known). A profile with warnings only is served.

    The topic `price` means that no price is known, so that runs are refused.
    """

    path: str
    message: str
    line: int | None = None
    is_warning: bool = False
    topic: ProblemTopic = "profile"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A stored key, without its secret.

    `policy` narrows each of its trees, `caps` all of them together, `request_limits` their number; `spent_micro_usd` is what they
    have cost so far. `workspaces` are the directories below which it may name workspaces. A peer that presents grants has a key
    of its own, with a random secret that is not kept.
    """

    id: KeyId
    name: str
    policy: LimitPolicy
    created_at: float
    caps: SpendCaps = field(default_factory=SpendCaps)
    revoked_at: float | None = None
    last_used_at: float | None = None
    spent_micro_usd: int = 0
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    workspaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one LLM call, or the sum over several. `cached` is part of `prompt`, `reasoning` part of `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One request for a run, as parsed by a wire. The caller and the form of the response are kept elsewhere.

    Attributes:
        model: the model id as the caller named it; `self` means the caller's own profile.
        fingerprint: hash of all that the request asks for, except the form of the response; empty if repetitions are not
            recognised.
        is_marked_retry: whether the client marks the request as a repetition.
    """

    model: str
    messages: tuple[Message, ...]
    context: DelegationContext = field(default_factory=DelegationContext)
    sampling: Sampling = field(default_factory=Sampling)
    answer_format: AnswerFormat | None = None
    fingerprint: str = field(default="", compare=False)
    is_marked_retry: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the ledger knows it.

    Attributes:
        agent: model id of the agent, such as `openhands_reviewer`.
        depth: edges from the root of its tree.
        deadline_at: when the run and all below it must have ended.
        task_hash: mark of agent and task, for the detection of cycles; see `task_marks`.
        usage: tokens of this run's own LLM calls.
        cost_self_micro_usd: money for this run's own LLM calls.
        cost_tree_micro_usd: the same plus that of all descendants.
        cost_complete: False if a part of the cost is unknown: a price is missing, or a call of an ended run is not booked yet.
        descendants: runs ever opened below this one, those on peers included.
        reserved_micro_usd: set aside by LLM calls under way in this run and below it, and for runs on peers.
        remote_run_id: the peer's own id of the run, if a peer executes it and has sent the id.
        origin: `gateway id/run id` of the run on a peer that this one was opened for.
    """

    id: RunId
    tree_id: TreeId
    parent_id: RunId | None
    key_id: KeyId
    agent: str
    depth: int
    state: RunState
    limits: Limits
    deadline_at: float
    task_hash: str
    conversation_id: ConversationId
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    turns: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_self_micro_usd: int = 0
    cost_tree_micro_usd: int = 0
    cost_complete: bool = True
    descendants: int = 0
    stop_reason: str | None = None
    error_code: str | None = None
    reserved_micro_usd: int = 0
    remote_run_id: str | None = None
    origin: str | None = None

    def executed_s(self, now: float) -> float:
        """Return for how long the run has been executed; 0 while it waits in the queue."""
        if self.started_at is None:
            return 0.0
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.started_at)


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What a peer reports of a run that it executes, beside what is recorded here.

    Attributes:
        gateway: the peer's own name.
        usage: tokens of the run itself; the record in this ledger includes those of its descendants.
        cost_below_micro_usd: cost of the runs directly below it, with their descendants.
        children: these runs, as JSON objects that the peer rendered.
    """

    gateway: str | None
    usage: TokenUsage
    turns: int
    cost_below_micro_usd: int
    children: tuple[Mapping[str, object], ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A durable history with its workspace; outlives runs.

    Attributes:
        owner: the key whose trees may continue it.
        agent: model id with which it was begun.
        workspace_dir: its own directory; None if it works in its parent's, or in one that its caller named.
        named_dir: the directory that its caller named. It is not the gateway's, and never removed.
        transcript: opaque text of the runner; empty for a new conversation.
    """

    id: ConversationId
    owner: KeyId
    agent: str
    created_at: float
    used_at: float
    expires_at: float
    workspace_dir: str | None = None
    transcript: str = ""
    named_dir: str | None = None


@dataclass(frozen=True, slots=True)
class AdmittedRun:
    """All that a runner needs for one run; picklable, so that it can run elsewhere.

    Attributes:
        profile: name of the profile to run.
        transcript: what the runner returned for an earlier run of the conversation; empty for a new one.
        workspace_dir: existing directory in which the agent's tools work.
        timeout_s: time left, from now.
        binding: for the delegation tool; None if the agent does not have it.
        peer: id of the peer that executes it, whose model id is then `profile`; None for this gateway.
        via: gateways that the request has come through.
        actors: the agents that led to the run, root first, its own last, each as `gateway id/model id`.
        trail: marks of the runs that led to it, its own last; other gateways pass them on (`task_marks`).
        traceparent: of the caller (W3C); None without.
        is_marked_retry: see `RunRequest`.
    """

    record: RunRecord
    profile: str
    messages: tuple[Message, ...]
    sampling: Sampling
    answer_format: AnswerFormat | None
    narration: Narration
    workspace_dir: str
    timeout_s: float
    transcript: str = ""
    binding: DelegationBinding | None = None
    peer: str | None = None
    via: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    trail: tuple[str, ...] = ()
    traceparent: str | None = None
    tracestate: str | None = None
    is_marked_retry: bool = False
