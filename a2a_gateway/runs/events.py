"""What happens during a run: a closed union of facts, in the order in which they happened. Plain data, picklable."""

from dataclasses import dataclass, field

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.model import RunRecord, TokenUsage


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run was admitted and begins; the first event of every run."""

    record: RunRecord


@dataclass(frozen=True, slots=True)
class OptionsIgnored:
    """The peer that executes the run has named fields of the request that have no effect there; comes before its first word."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """A piece of the answer as the caller sees it; joined, the deltas are the outcome's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the LLM's reasoning, or of narration that was asked for as reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """One LLM call ended. `cost_micro_usd` is None where no price is known."""

    turn: int
    usage: TokenUsage
    cost_micro_usd: int | None


@dataclass(frozen=True, slots=True)
class ToolStarted:
    tool: str
    call_id: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    tool: str
    call_id: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The agent answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit ended the run. `reason` is the limit (`max_turns`, `budget_exceeded`, `deadline_exceeded`, `max_tokens`).

    `error` is what the caller gets where there is no text to show.
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
    """Somebody asked the run to stop; `text` is what had been written by then, `why` a sentence if there is one to tell."""

    text: str = ""
    why: str = ""


type Outcome = Finished | Limited | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The runner's last event. `transcript` continues the conversation in a later run; it is opaque to everyone else."""

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
    """What a run may still give to new runs below it; `budget_micro_usd` is None without a budget."""

    runs: int
    budget_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run cost, once it has ended: the run itself, and everything below it.

    Attributes:
        record: the run's final record.
        by_agent: its descendants, grouped by agent.
        tree_usage: tokens of the run and all its descendants.
        remaining_micro_usd: what its budget, or the least of its ancestors', still allows; None without a budget.
        parent: what the run has left to the one above it; None for the root of a tree.
        pending: what a part of it has cost is not known yet, and may still be learnt.
    """

    record: RunRecord
    by_agent: tuple[AgentCost, ...] = ()
    tree_usage: TokenUsage = field(default_factory=TokenUsage)
    remaining_micro_usd: int | None = None
    parent: Remainder | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The service's last event: the outcome, with everything settled."""

    outcome: Outcome
    summary: RunSummary


type RunnerEvent = OptionsIgnored | ContentDelta | ReasoningDelta | TurnFinished | ToolStarted | ToolFinished | RunEnded
type RunEvent = (
    RunStarted | OptionsIgnored | ContentDelta | ReasoningDelta | TurnFinished | ToolStarted | ToolFinished | RunFinished
)
