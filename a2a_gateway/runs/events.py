"""The events of a run: a closed union of facts, in the order in which they happened. Plain data, picklable."""

from dataclasses import dataclass, field

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.kept_text import EMPTY, KeptText
from a2a_gateway.runs.model import RunRecord, TokenUsage


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run was admitted and begins; the first event of every run."""

    record: RunRecord


@dataclass(frozen=True, slots=True)
class OptionsIgnored:
    """The peer that executes the run has named fields of the request that have no effect there; precedes the first delta."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """A piece of the answer as the caller sees it; joined, the deltas are the outcome's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the LLM's reasoning, or of narration that was requested as reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """One LLM call ended. `cost_micro_usd` is None if no price is known."""

    turn: int
    usage: TokenUsage
    cost_micro_usd: int | None


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool was called. `arguments` are the JSON that the LLM wrote, which need not be valid."""

    tool: str
    call_id: str
    arguments: KeptText = EMPTY


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool call ended. `child_run_id` is the run that a delegation began, if it began one."""

    tool: str
    call_id: str
    is_error: bool = False
    child_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventsOmitted:
    """In place of the events of an ended run that were not kept, because they were too long; precedes the end."""

    count: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The agent answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit ended the run. `reason` is the limit (`max_turns`, `budget_exceeded`, `deadline_exceeded`, `max_tokens`).

    `error` is what the caller gets if there is no text.
    """

    text: str
    reason: str
    error: GatewayError


@dataclass(frozen=True, slots=True)
class Failed:
    """The agent or its LLM failed; `text` is what had been written by then."""

    error: GatewayError
    text: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The run was asked to stop; `text` is what had been written by then, `why` a sentence for the caller or empty."""

    text: str = ""
    why: str = ""


type Outcome = Finished | Limited | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The runner's last event. `transcript` continues the conversation in a later run, and is opaque to all but the runner."""

    outcome: Outcome
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class AgentCost:
    """What the descendants with one agent cost together."""

    agent: str
    runs: int
    cost_micro_usd: int


@dataclass(frozen=True, slots=True)
class Remainder:
    """What a run may still give to new runs below it. `budget_micro_usd`: None without a budget."""

    runs: int
    budget_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run cost, once it has ended: the run itself, and everything below it.

    Attributes:
        record: the run's final record.
        by_agent: its descendants, grouped by agent.
        tree_usage: tokens of the run and all its descendants.
        remaining_micro_usd: what its budget, or the smallest of its ancestors', still allows; None without a budget.
        parent: what is left for the run above it; for the root of a tree, None.
        pending: the cost of a part of it is not final, and may still be reconciled with a peer.
    """

    record: RunRecord
    by_agent: tuple[AgentCost, ...] = ()
    tree_usage: TokenUsage = field(default_factory=TokenUsage)
    remaining_micro_usd: int | None = None
    parent: Remainder | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The service's last event: the outcome, with everything settled.

    Attributes:
        is_truncated: whether only the beginning of the outcome's text was kept.
    """

    outcome: Outcome
    summary: RunSummary
    is_truncated: bool = False


type RunnerEvent = OptionsIgnored | ContentDelta | ReasoningDelta | TurnFinished | ToolStarted | ToolFinished | RunEnded
type RunEvent = (
    RunStarted
    | OptionsIgnored
    | ContentDelta
    | ReasoningDelta
    | TurnFinished
    | ToolStarted
    | ToolFinished
    | EventsOmitted
    | RunFinished
)
