"""What a peer's answer means here: its outcome as ours, and what it is paid. Pure; a peer is read with suspicion."""

from dataclasses import replace
from typing import Final

from a2a_gateway.errors import (
    BudgetExceeded,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    GatewayError,
    LLMRateLimited,
    PeerLost,
    PeerRejected,
    PeerUnavailable,
    RequestError,
    RunError,
    error_class,
)
from a2a_gateway.provider_errors import meaning_of
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome
from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from delegate_tool.failures import Failure
from delegate_tool.protocol.money import format_usd
from delegate_tool.protocol.result import DelegationResult, DelegationStatus

_OURS: Final = frozenset(
    {
        "budget_exceeded",
        "context_length_exceeded",
        "content_filter",
        "deadline_exceeded",
        "delegation_cycle_detected",
        "delegation_depth_exceeded",
        "delegation_runs_exhausted",
        "gateway_loop_detected",
        "llm_bad_request",
        "llm_rate_limited",
        "llm_unavailable",
        "max_turns_exceeded",
        "agent_error",
        "agent_stuck",
        "response_format_violated",
        "run_lost",
    }
)
"""Codes that mean the same wherever they come from; the rest is between this gateway and its peer."""
_FULL: Final = frozenset({"capacity_exceeded", "delegation_breadth_exceeded", "not_ready", "store_unavailable"})
_TOO_MANY_REQUESTS: Final = 429
_USED_UP: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes of OpenAI that come with a 429 which no waiting cures."""
_BROKEN: Final = frozenset({"stream_broken", "timeout"})

UNKNOWN: Final = Charge(cost_micro_usd=None, complete=False, turns=0, final=False)
"""What a run has cost whose peer has not said: nothing for now, until it can be asked."""


def outcome_of(result: DelegationResult, peer_id: str, text: str) -> Outcome:
    """Translate how a run on a peer ended; `text` is what it has said."""
    match result.status:
        case DelegationStatus.FINISHED:
            return Finished(text)
        case DelegationStatus.PARTIAL:
            reason = "max_tokens" if result.stop_reason in (None, "length") else result.stop_reason
            return Limited(
                text, reason, _kind(reason, RunError)(f"The run at the peer {peer_id} was ended by a limit: {reason}.")
            )
        case DelegationStatus.CANCELLED:
            return Cancelled(text)
        case _:
            return Failed(_error(result, peer_id), text)


def doubtful(failure: Failure) -> Failure:
    """Say what a failure means where an earlier attempt of the request may have been carried out: not that nothing has been."""
    is_denial = failure.code == "unreachable" or failure.code in _FULL
    return replace(failure, status=DelegationStatus.FAILED, code="stream_broken") if is_denial else failure


def overdue(text: str, timeout_s: float) -> Outcome:
    """Say that a peer did not end the run in its time."""
    return Limited(text, "deadline_exceeded", DeadlineExceeded(f"The peer had {timeout_s:g} s and did not finish."))


def cut_by_budget(text: str, hold: Hold) -> Outcome:
    """Make the outcome of an answer that is shorter than was asked for, because the budget allowed no longer one."""
    left = f"{format_usd(hold.left_micro_usd or 0)} USD of the budget were left"
    error = BudgetExceeded(f"{left}, which pay for {hold.max_output_tokens} tokens of output. Ask for a larger one, or for less.")
    return Limited(text, "budget_exceeded", error)


def is_sick(result: DelegationResult) -> bool:
    """Whether a peer could not be reached or has broken off, rather than answered something."""
    code = result.error_code or ""
    return code == "unreachable" or code in _BROKEN or code.startswith("http_5")


def charge_of(result: DelegationResult, hold: Hold, *, has_begun: bool) -> Charge:
    """Decide what another gateway is paid: what it reports, and never more than was set aside for it.

    Args:
        has_begun: an answer had begun, or may have, so something was executed.
    """
    if not has_begun and _was_refused(result):
        return Charge(turns=0)
    told = result.cost_micro_usd
    if told is None:
        return UNKNOWN
    paid = told if hold.budget_micro_usd is None else min(told, hold.reserved_micro_usd)
    return Charge(
        usage_of(result),
        paid,
        result.cost_complete and paid == told,
        turns=result.turns or 1,
        runs=max(0, result.runs - 1),
        final=paid != told or result.cost_final,
    )


def usage_of(result: DelegationResult) -> TokenUsage:
    """The tokens of a run on a peer and of all below it: here they are all its own."""
    tokens = result.tree_tokens
    return TokenUsage(tokens.prompt, tokens.completion, tokens.cached, tokens.reasoning)


def _was_refused(result: DelegationResult) -> bool:
    """Whether nothing was executed. A gateway names the run that it has admitted, also in an error; a proxy in front of it that
    gives up says nothing of what goes on behind it."""
    if result.status is DelegationStatus.REFUSED or result.error_code == "unreachable":
        return result.cost_micro_usd in (None, 0)
    is_an_answer = result.error_code is not None and not is_sick(result) and result.error_code != "malformed_response"
    return is_an_answer and result.run_id is None


def _error(result: DelegationResult, peer_id: str) -> GatewayError:
    code = result.error_code or "unknown"
    # Its facts are those of its own run, so they stand apart from what this gateway says of this one.
    details = {"peer": peer_id, "peer_code": code, "peer_details": {k: v for k, v in result.details.items() if k != "partial"}}
    words = f"The peer {peer_id} answered: {result.error_message or code}"
    if code == "unreachable":
        return PeerUnavailable(f"The peer {peer_id} cannot be reached.", details=details, retry_after_s=5)
    if code in _FULL and result.run_id is None:
        return PeerUnavailable(words, details=details, retry_after_s=5 if result.retry_after_s is None else result.retry_after_s)
    meaning = _meaning(result, code)
    is_429 = result.http_status == _TOO_MANY_REQUESTS and code not in _OURS and code not in _USED_UP
    if code == LLMRateLimited.code or is_429 or meaning is LLMRateLimited:
        return LLMRateLimited(words, details=details, retry_after_s=result.retry_after_s)
    if is_sick(result) or code in _FULL:
        return PeerLost(f"The peer {peer_id} broke off in the middle of the run ({code}).", details=details)
    if code == "malformed_response":
        return PeerRejected(f"The peer {peer_id} answered what cannot be read.", details=details)
    return (_kind(code, None) or meaning or PeerRejected)(words, details=details)


def _kind[T: type[GatewayError] | None](code: str, otherwise: T) -> type[GatewayError] | T:
    return (error_class(code) if code in _OURS else None) or otherwise


def _meaning(result: DelegationResult, code: str) -> type[GatewayError] | None:
    """Find what a plain endpoint refused, by its words; only what a caller can act on, the rest is between us and it."""
    says_it_by_code = error_class(code) is not None and code != RequestError.code  # a code that plain endpoints use for all
    if says_it_by_code or result.http_status is None or is_sick(result):
        return None
    meaning = meaning_of(result.error_message or "", result.http_status)
    return meaning if meaning in (ContentFiltered, ContextLengthExceeded, LLMRateLimited) else None
