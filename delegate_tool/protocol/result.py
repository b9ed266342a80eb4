"""How a delegation ended: the one value that client, executor and scripts exchange. Standard library only.

Money is integer micro-USD, durations are seconds. It knows neither OpenAI's format nor OpenHands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DelegationStatus(StrEnum):
    """How a delegation ended, as the delegating agent needs to know it."""

    FINISHED = "finished"  # the agent answered
    PARTIAL = "partial"  # a limit ended it with text to show
    REFUSED = "refused"  # it never started
    FAILED = "failed"  # it broke; the answer, if any, is what had arrived by then
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a run. `cached` is part of `prompt`, `reasoning` part of `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class CallerLeft:
    """What the caller of a run may still give to others, as the endpoint says; None is unknown or without limit."""

    runs: int | None = None
    budget_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class DelegationResult:
    """What came back from one delegation.

    Attributes:
        answer: the agent's final text, or as much of it as arrived.
        cost_micro_usd: of the run and all its descendants, this request only; None is unknown, which is not zero.
        cost_complete: whether `cost_micro_usd` covers everything that was used.
        cost_final: whether the endpoint says that it stays as it is.
        turns: LLM calls of the run, where the endpoint tells.
        runs: runs that the delegation used, descendants included.
        seconds: as waited for here.
        tokens: the run's own.
        tree_tokens: the same with all descendants; equals `tokens` where the endpoint does not tell.
        stop_reason: the endpoint's word for why the run ended.
        left: what it has left to its caller; None where the endpoint does not tell.
        error_code: stable code of the error (protocol section 5, or one of `failures`); None without one.
        error_message: what went wrong, which limit with which value, and what to do instead.
        details: facts for programs that came with an error.
        http_status: of the error, where it came as a response of its own.
        retry_after_s: when the endpoint wants the request again, where it says so.
    """

    status: DelegationStatus
    answer: str = ""
    run_id: str | None = None
    tree_id: str | None = None
    conversation_id: str | None = None
    depth: int | None = None
    cost_micro_usd: int | None = None
    cost_complete: bool = False
    cost_final: bool = False
    turns: int | None = None
    runs: int = 0
    seconds: float = 0.0
    tokens: Tokens = field(default_factory=Tokens)
    tree_tokens: Tokens = field(default_factory=Tokens)
    stop_reason: str | None = None
    left: CallerLeft | None = None
    error_code: str | None = None
    error_message: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    http_status: int | None = None
    retry_after_s: float | None = None


def refused(code: str, message: str) -> DelegationResult:
    """Make the result of a delegation that is refused before anything is sent: it costs nothing."""
    return DelegationResult(
        DelegationStatus.REFUSED, cost_micro_usd=0, cost_complete=True, error_code=code, error_message=message
    )
