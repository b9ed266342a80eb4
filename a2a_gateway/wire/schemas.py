"""The shapes of all responses that no single wire owns, as types: for the OpenAPI document, and for readers.

`render_*` functions build these objects; nothing is validated when they are sent. A test compares what a running gateway sends
with these types, field by field.
"""

from typing import Literal, NotRequired, TypedDict

from pydantic import ConfigDict, with_config

_DESCRIBED = ConfigDict(use_attribute_docstrings=True)


@with_config(_DESCRIBED)
class ErrorObject(TypedDict):
    """What went wrong, in OpenAI's shape."""

    message: str
    """The limit, the actual value and the remedy."""
    type: str
    param: str | None
    """The request's field or header at fault."""
    code: str
    """A stable code."""
    details: dict[str, object]
    """Facts for programs, such as the id and the cost of the run."""


class ErrorBody(TypedDict):
    """The body of every response that is an error."""

    error: ErrorObject


class LimitsObject(TypedDict, total=False):
    """Limits. An agent's limits that are not set are absent; those of a run are all set, and null means unlimited."""

    max_depth: int
    max_breadth: int
    max_runs: int
    timeout_s: float
    max_turns: int
    budget_usd: str | None
    allowed_agents: list[str] | None


class CapabilitiesObject(TypedDict):
    """What an agent can do."""

    vision: bool
    tools: list[str]
    may_delegate: bool


@with_config(_DESCRIBED)
class ModelObject(TypedDict):
    """An agent, as OpenAI describes a model, with more fields."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    """`openhands`, or the name of the peer that runs the agent."""
    description: str
    context_length: int | None
    max_model_len: int | None
    max_output_tokens: int | None
    price_source: Literal["configured", "litellm", "local", "assumed"] | None
    """Where the price of its LLM comes from; `local` is free. Null for an agent of a peer, or if no price is known."""
    capabilities: CapabilitiesObject
    limits: LimitsObject


class ModelListObject(TypedDict):
    """A list of agents."""

    object: Literal["list"]
    data: list[ModelObject]


@with_config(_DESCRIBED)
class ProfileObject(ModelObject):
    """An agent, as its operator sees it."""

    name: str
    """The name of the profile: the id without its prefix."""
    llm: str
    mcp_servers: list[str]
    source: str
    """The file or the variable that defines it."""


@with_config(_DESCRIBED)
class ProfileProblemObject(TypedDict):
    """What is wrong with a definition, and where."""

    path: str
    line: int | None
    message: str
    severity: Literal["error", "warning"]
    """A profile with warnings only is served."""
    topic: Literal["profile", "price"]
    """`price`: no price of its LLM is known, so its runs are refused."""


@with_config(_DESCRIBED)
class ProfileListObject(TypedDict):
    """All profiles that can be used, and what is wrong with these and the others."""

    object: Literal["list"]
    data: list[ProfileObject]
    problems: list[ProfileProblemObject]
    directories: list[str]
    """Where Markdown profiles are searched, in this order."""


class TokensObject(TypedDict):
    """The tokens of one run's own LLM calls."""

    prompt: int
    completion: int
    cached: int
    reasoning: int


class TreeTokensObject(TypedDict):
    """The tokens of a run and all below it."""

    prompt: int
    completion: int


@with_config(_DESCRIBED)
class CostObject(TypedDict):
    """What a run has cost, in decimal strings."""

    self: str
    tree: str
    """The run and all below it."""
    reserved: str
    """Set aside for LLM calls under way."""
    currency: Literal["USD"]
    complete: bool
    """Whether every part of the cost is known."""
    pending: NotRequired[bool]
    """Whether a part that is not known yet may still become known."""


@with_config(_DESCRIBED)
class RunObject(TypedDict):
    """One run. Instants are ISO 8601 in UTC."""

    id: str
    object: Literal["run"]
    tree_id: str
    parent_id: str | None
    agent: str
    depth: int
    state: Literal["queued", "running", "finished", "limited", "failed", "cancelled", "lost"]
    stop_reason: str | None
    error_code: str | None
    remote_run_id: str | None
    """The id of the run on the peer that executes it."""
    origin: str | None
    """`gateway id/run id` of the run on a peer that asked for this one."""
    conversation_id: str
    created_at: str
    started_at: str | None
    ended_at: str | None
    deadline_at: str
    seconds: float
    """How long it has been executed."""
    turns: int
    tokens: TokensObject
    cost: CostObject
    descendants: int
    limits: LimitsObject
    tree_tokens: NotRequired[TreeTokensObject]
    """Only where one run was asked for."""


class RunListObject(TypedDict):
    """A list of runs, the latest first."""

    object: Literal["list"]
    data: list[RunObject]


class AnswerObject(TypedDict):
    """The answer of a run."""

    text: str
    finish_reason: Literal["stop", "length", "content_filter"]


@with_config(_DESCRIBED)
class TaskObject(TypedDict):
    """The task of a run: the last user message of its request."""

    text: str
    truncated: bool
    """Whether only the beginning is kept."""


@with_config(_DESCRIBED)
class RunDetailsObject(RunObject):
    """One run, with what is kept of it."""

    task: TaskObject | None
    """Null if nothing is kept of tasks (`A2A_JOURNAL_BYTES=0`), or an earlier release ran it."""
    workspace: str | None
    """The directory on the gateway's machine in which its tools work. Null if it does not exist, or no longer, and for runs and
    peers that ask."""
    children: list[RunObject]
    """The first 100 runs directly below it on this gateway, oldest first."""
    answer: NotRequired[AnswerObject]
    """Once it has ended, as far as it is kept."""
    error: NotRequired[ErrorObject]
    """In place of the answer, if the run failed."""
    truncated: NotRequired[bool]
    """Whether only the beginning of the answer, or of the text in `error.details.partial`, is kept."""


@with_config(_DESCRIBED)
class RunTreeObject(RunObject):
    """A run with all below it."""

    gateway: str | None
    """The gateway that executes it."""
    children: list["RunTreeObject"]
    unreachable: NotRequired[str]
    """Why the peer that executes it does not describe what is below it."""


class AgentCostObject(TypedDict):
    """What the descendants with one agent have cost together."""

    model: str
    gateway: str
    runs: int
    cost: str


@with_config(_DESCRIBED)
class CostDetailsObject(TypedDict):
    """What a run has cost, in decimal strings."""

    self: str
    descendants: str
    currency: Literal["USD"]
    complete: bool
    pending: NotRequired[bool]
    """Whether a part that is not known yet may still become known."""
    by_agent: list[AgentCostObject]


@with_config(_DESCRIBED)
class ParentObject(TypedDict):
    """What a run has left to the run that asked for it."""

    remaining: str | None
    runs_left: int


@with_config(_DESCRIBED)
class DelegationObject(TypedDict):
    """The place of a run in its tree."""

    run_id: str
    tree_id: str
    depth: int
    max_depth: int
    runs: int
    """The run and all below it."""
    turns: int
    stop_reason: str | None
    budget: str | None
    remaining: str | None
    parent: NotRequired[ParentObject]
    tree_tokens: TreeTokensObject


class PromptTokensDetailsObject(TypedDict):
    """A part of the prompt tokens."""

    cached_tokens: int


class CompletionTokensDetailsObject(TypedDict):
    """A part of the completion tokens."""

    reasoning_tokens: int


@with_config(_DESCRIBED)
class UsageObject(TypedDict):
    """OpenAI's token counts of the run itself, and the cost of the run with all below it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetailsObject
    completion_tokens_details: CompletionTokensDetailsObject
    cost: float
    """USD; exact in `cost_details`."""
    cost_details: CostDetailsObject
    delegation: DelegationObject


class HealthObject(TypedDict):
    """The process answers."""

    status: Literal["ok"]


@with_config(_DESCRIBED)
class ReadinessObject(TypedDict):
    """Whether runs are taken: only in the state `ready`."""

    status: Literal["starting", "ready", "draining", "failed"]
    peers_ok: NotRequired[int]
    peers_down: NotRequired[int]
    peers: NotRequired[dict[str, str]]
    """State of each peer; only for a request with a key."""


@with_config(_DESCRIBED)
class KeySetObject(TypedDict):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, object]]
    gateway_id: str
    """The name of the gateway that signs with these keys."""
