"""The result of a delegation, which client, executor and scripts exchange. Standard library only.

Money is integer micro-USD, durations are seconds. Knows neither OpenAI's format nor OpenHands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from delegate_tool.protocol.money import format_usd
from delegate_tool.protocol.remedies import remedy_for_people
from delegate_tool.protocol.status import DelegationStatus

__all__ = ["CallerLeft", "DelegationError", "DelegationResult", "DelegationStatus", "Tokens", "make_refusal"]


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
    """The result of one delegation: `ok`, `answer` and `cost_usd` are what most scripts need.

    Attributes:
        status: `finished` (the agent answered), `partial` (a limit ended it, `answer` is incomplete), `refused` (it never
            started), `failed` (it broke off), `cancelled`.
        answer: the agent's final text, or as much of it as arrived.
        parsed: the answer as a `response_format` demands it: an instance of the model class, or the JSON value. None without one.
        run_id: of the run at a gateway; None at any other endpoint. `tree_id` is its root's.
        conversation_id: give it to the next call to go on with the same agent.
        depth: of the run in its tree; 0 is the root.
        cost_micro_usd: of the run and all its descendants, for this request only; None means unknown, which is not zero.
        cost_complete: whether `cost_micro_usd` covers everything that was used.
        cost_final: whether the endpoint reports that the cost will not change.
        budget_enforced: whether the endpoint enforces the budget that was asked for. False for an endpoint that is no gateway: it
            ignores the budget. None if no budget was asked for, or if nothing was run.
        turns: LLM calls of the run, if the endpoint reports them.
        runs: runs that the delegation used, descendants included.
        seconds: measured by the client.
        tokens: of the run itself.
        tree_tokens: the same with all descendants; equals `tokens` if the endpoint does not report it.
        stop_reason: why the run ended, in the endpoint's terms.
        left: what is left to the caller, if the endpoint reports it.
        error_code: stable code of the error, see `protocol.codes`; None without an error.
        error_message: what went wrong, and which limit with which value; `remedy` is what to do about it.
        details: facts for programs, from the error.
        http_status: of the error response, if there was one.
        retry_after_s: of the error response, if it has one.
    """

    status: DelegationStatus
    answer: str = ""
    parsed: Any = None
    run_id: str | None = None
    tree_id: str | None = None
    conversation_id: str | None = None
    depth: int | None = None
    cost_micro_usd: int | None = None
    cost_complete: bool = False
    cost_final: bool = False
    budget_enforced: bool | None = None
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

    @property
    def ok(self) -> bool:
        """Whether the agent finished. A partial answer is not ok."""
        return self.status is DelegationStatus.FINISHED

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost in USD, exact to six places; None if it is unknown. See `cost_micro_usd` and `cost_complete`."""
        return None if self.cost_micro_usd is None else Decimal(format_usd(self.cost_micro_usd))

    @property
    def remedy(self) -> str | None:
        """What to do about the error, in one sentence; None without an error, or if nothing is known."""
        code = self.error_code or (self.stop_reason if self.status is DelegationStatus.PARTIAL else None)
        return (code and remedy_for_people(code)) or None

    def raise_for_status(self) -> Self:
        """Return this result if it is `ok`, so that calls can be chained.

        Raises:
            DelegationError: the agent did not finish; the error's `result` has what it had written by then.
        """
        if not self.ok:
            raise DelegationError(self)
        return self


class DelegationError(Exception):
    """A delegation that did not finish; `DelegationResult.raise_for_status` raises it.

    Attributes:
        result: the whole result, with the text that had arrived and what it cost.
        status: `partial`, `refused`, `failed` or `cancelled`.
        code: stable code of the error, or the limit that ended a partial answer, such as `budget_exceeded`.
        remedy: what to do about it, in one sentence; None if nothing is known.
    """

    def __init__(self, result: DelegationResult) -> None:
        super().__init__(result)  # so that it can be pickled
        self.result = result
        self.status = result.status
        self.code = result.error_code or result.stop_reason or str(result.status)
        self.remedy = result.remedy

    def __str__(self) -> str:
        partial = "A limit ended the run before the agent had finished."
        message = self.result.error_message or (partial if self.status is DelegationStatus.PARTIAL else "")
        return " ".join(part for part in (f"Delegation {self.status} ({self.code}):", message, self.remedy) if part)


def make_refusal(code: str, message: str) -> DelegationResult:
    """Make the result of a delegation that is refused before a request is sent, so it costs nothing."""
    return DelegationResult(
        DelegationStatus.REFUSED, cost_micro_usd=0, cost_complete=True, error_code=code, error_message=message
    )
