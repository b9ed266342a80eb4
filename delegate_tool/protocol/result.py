"""The result of a delegation, which client, executor and scripts exchange. Standard library only.

Money is integer micro-USD, durations are seconds. Knows neither OpenAI's format nor OpenHands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DelegationStatus(StrEnum):
    """How a delegation ended, as the delegating agent needs to know it."""

    FINISHED = "finished"  # the agent answered
    PARTIAL = "partial"  # a limit ended it, and there is text of the answer
    REFUSED = "refused"  # it never started
    FAILED = "failed"  # it broke off; the answer, if any, is the text received by then
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
    """What the caller of a run has left for delegating, as the endpoint reports it; None means unknown or unlimited."""

    runs: int | None = None
    budget_micro_usd: int | None = None


@dataclass(frozen=True, slots=True)
class DelegationResult:
    """The result of one delegation.

    Attributes:
        answer: the agent's final text, or as much of it as arrived.
        cost_micro_usd: of the run and all its descendants, for this request only; None means unknown, which is not zero.
        cost_complete: whether `cost_micro_usd` covers everything that was used.
        cost_final: whether the endpoint reports that the cost will not change.
        turns: LLM calls of the run, if the endpoint reports them.
        runs: runs that the delegation used, descendants included.
        seconds: measured by the client.
        tokens: of the run itself.
        tree_tokens: the same with all descendants; equals `tokens` if the endpoint does not report it.
        stop_reason: why the run ended, in the endpoint's terms.
        left: what is left to the caller, if the endpoint reports it.
        error_code: stable code of the error, see `protocol.codes`; None without an error.
        error_message: what went wrong, which limit with which value, and what to do instead.
        details: facts for programs, from the error.
        http_status: of the error response, if there was one.
        retry_after_s: of the error response, if it has one.
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


def make_refusal(code: str, message: str) -> DelegationResult:
    """Make the result of a delegation that is refused before a request is sent, so it costs nothing."""
    return DelegationResult(
        DelegationStatus.REFUSED, cost_micro_usd=0, cost_complete=True, error_code=code, error_message=message
    )
