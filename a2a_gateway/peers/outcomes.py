"""Translate the result of a run on a peer: its outcome as an outcome of this gateway, and the charge. Pure.

What an error code of a peer becomes is a column of `delegate_tool.protocol.codes`. Nothing that a peer reports is trusted: it is
never paid more than was reserved.
"""

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
from delegate_tool.protocol.codes import MALFORMED_RESPONSE, STREAM_BROKEN, UNREACHABLE, FromPeer, from_peer
from delegate_tool.protocol.money import format_usd
from delegate_tool.protocol.result import DelegationResult, DelegationStatus
from delegate_tool.remote.failures import Failure

_TOO_MANY_REQUESTS: Final = 429
_RETRY_AFTER_S: Final = 5.0
_USED_UP: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes of OpenAI that come with status 429 although waiting does not help."""

UNKNOWN: Final = Charge(cost_micro_usd=None, complete=False, turns=0, final=False)
"""The charge of a run whose peer has not reported a cost: nothing for now, until reconciliation has asked."""


def outcome_of(result: DelegationResult, peer_id: str, text: str) -> Outcome:
    """Translate how a run on a peer ended; `text` is its answer so far."""
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


def downgrade_denial(failure: Failure) -> Failure:
    """Downgrade "nothing was executed" to "unknown", because an earlier attempt of the request may have reached the peer."""
    is_denial = from_peer(failure.code) is FromPeer.NOT_EXECUTED
    return replace(failure, status=DelegationStatus.FAILED, code=STREAM_BROKEN) if is_denial else failure


def deadline_outcome(text: str, timeout_s: float) -> Outcome:
    """Make the outcome of a run that its peer did not end before the deadline."""
    return Limited(text, DeadlineExceeded.code, DeadlineExceeded(f"The peer had {timeout_s:g} s and did not finish."))


def budget_outcome(text: str, hold: Hold) -> Outcome:
    """Make the outcome of an answer that the budget has cut short."""
    left = f"{format_usd(hold.left_micro_usd or 0)} USD of the budget were left"
    error = BudgetExceeded(
        f"{left}, which pay for {hold.max_output_tokens} tokens of output. Allow a larger budget, or ask for a shorter answer."
    )
    return Limited(text, error.code, error)


def has_failed(result: DelegationResult) -> bool:
    """Return whether the peer was unreachable, broke off, or failed with 5xx instead of answering."""
    code = result.error_code or ""
    return code == UNREACHABLE or from_peer(code) is FromPeer.BROKEN_OFF or code.startswith("http_5")


def charge_of(result: DelegationResult, hold: Hold, *, has_begun: bool) -> Charge:
    """Return the charge for a run on a peer: what the peer reports, and never more than was reserved.

    Args:
        has_begun: an answer had begun, or may have, so the peer has executed something.
    """
    if not has_begun and _was_refused(result):
        return Charge(turns=0)
    reported = result.cost_micro_usd
    if reported is None:
        return UNKNOWN
    paid = reported if hold.budget_micro_usd is None else min(reported, hold.reserved_micro_usd)
    return Charge(
        usage_of(result),
        paid,
        result.cost_complete and paid == reported,
        turns=result.turns or 1,
        runs=max(0, result.runs - 1),
        final=paid != reported or result.cost_final,
    )


def usage_of(result: DelegationResult) -> TokenUsage:
    """Return the tokens of a run on a peer and of all below it; in this ledger they belong to the one run."""
    tokens = result.tree_tokens
    return TokenUsage(tokens.prompt, tokens.completion, tokens.cached, tokens.reasoning)


def _was_refused(result: DelegationResult) -> bool:
    """Return whether the peer has executed nothing.

    A gateway names the run that it admitted, also in an error. An error of a proxy in front of it proves nothing.
    """
    if result.status is DelegationStatus.REFUSED or result.error_code == UNREACHABLE:
        return result.cost_micro_usd in (None, 0)
    is_an_answer = result.error_code is not None and not has_failed(result) and result.error_code != MALFORMED_RESPONSE
    return is_an_answer and result.run_id is None


def _error(result: DelegationResult, peer_id: str) -> GatewayError:
    code = result.error_code or "unknown"
    # The peer's details describe its own run, so they are kept apart from those of this gateway's run.
    details = {"peer": peer_id, "peer_code": code, "peer_details": {k: v for k, v in result.details.items() if k != "partial"}}
    message = f"The peer {peer_id} answered: {result.error_message or code}"
    if code == UNREACHABLE:
        return PeerUnavailable(f"The peer {peer_id} cannot be reached.", details=details, retry_after_s=_RETRY_AFTER_S)
    kind = from_peer(code)
    if kind is FromPeer.NOT_EXECUTED and result.run_id is None:
        wait_s = _RETRY_AFTER_S if result.retry_after_s is None else result.retry_after_s
        return PeerUnavailable(message, details=details, retry_after_s=wait_s)
    meaning = _meaning(result, code)
    is_429 = result.http_status == _TOO_MANY_REQUESTS and kind is not FromPeer.SAME and code not in _USED_UP
    if code == LLMRateLimited.code or is_429 or meaning is LLMRateLimited:
        return LLMRateLimited(message, details=details, retry_after_s=result.retry_after_s)
    if has_failed(result) or kind is FromPeer.NOT_EXECUTED:
        return PeerLost(f"The peer {peer_id} broke off in the middle of the run ({code}).", details=details)
    if code == MALFORMED_RESPONSE:
        return PeerRejected(f"The response of the peer {peer_id} cannot be read.", details=details)
    return (_kind(code, None) or meaning or PeerRejected)(message, details=details)


def _kind[T: type[GatewayError] | None](code: str, otherwise: T) -> type[GatewayError] | T:
    return (error_class(code) if from_peer(code) is FromPeer.SAME else None) or otherwise


def _meaning(result: DelegationResult, code: str) -> type[GatewayError] | None:
    """Return the error that a plain endpoint's message describes, if the caller can act on it; None for all others."""
    has_own_code = error_class(code) is not None and code != RequestError.code  # plain endpoints use this code for everything
    if has_own_code or result.http_status is None or has_failed(result):
        return None
    meaning = meaning_of(result.error_message or "", result.http_status)
    return meaning if meaning in (ContentFiltered, ContextLengthExceeded, LLMRateLimited) else None
