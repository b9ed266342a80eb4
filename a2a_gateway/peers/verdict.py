"""What a peer's answer means here: its outcome as ours, and what it is paid. Pure; a peer is read with suspicion."""

from typing import Final

from a2a_gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    PeerLost,
    PeerRejected,
    PeerUnavailable,
    RunError,
    error_class,
)
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome
from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from delegate_tool.result import DelegationResult, DelegationStatus

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
        "agent_error",
        "agent_stuck",
        "response_format_violated",
        "run_lost",
    }
)
"""Codes that mean the same wherever they come from; the rest is between this gateway and its peer."""
_DOWN: Final = frozenset({"unreachable", "capacity_exceeded", "delegation_breadth_exceeded", "not_ready", "store_unavailable"})
_BROKEN: Final = frozenset({"stream_broken", "timeout", "malformed_response"})


UNKNOWN: Final = Charge(cost_micro_usd=None, complete=False, turns=0, final=False)
"""What a run has cost whose peer broke off, or did not say: nothing for now, until the peer can be asked."""


def outcome_of(result: DelegationResult, peer_id: str, text: str) -> Outcome:
    """Translate how a run on a peer ended; `text` is what it has said."""
    match result.status:
        case DelegationStatus.FINISHED:
            return Finished(text)
        case DelegationStatus.PARTIAL:
            reason = result.stop_reason or "max_tokens"
            kind = error_class(reason) or RunError
            return Limited(text, reason, kind(f"The run at the peer {peer_id} was ended by a limit: {reason}."))
        case DelegationStatus.CANCELLED:
            return Cancelled(text)
        case _:
            return Failed(_error(result, peer_id), text)


def overdue(text: str, timeout_s: float) -> Outcome:
    """Say that a peer did not end the run in its time."""
    return Limited(text, "deadline_exceeded", DeadlineExceeded(f"The peer had {timeout_s:g} s and did not finish."))


def charge_of(result: DelegationResult, hold: Hold) -> Charge:
    """Decide what a peer is paid: what it tells, and never more than was set aside for it."""
    if result.status is DelegationStatus.REFUSED or result.error_code == "unreachable":
        return Charge(turns=0)
    if result.error_code in _BROKEN and result.cost_micro_usd is None:
        return UNKNOWN
    told = result.cost_micro_usd
    paid = told if told is None or hold.budget_micro_usd is None else min(told, hold.reserved_micro_usd)
    tokens = result.tree_tokens
    usage = TokenUsage(tokens.prompt, tokens.completion, tokens.cached, tokens.reasoning)
    complete = result.cost_complete and paid is not None and paid == told
    return Charge(usage, paid, complete, turns=result.turns or 1, runs=max(0, result.runs - 1))


def _error(result: DelegationResult, peer_id: str) -> GatewayError:
    code = result.error_code or "unknown"
    words = f"The peer {peer_id} answered: {result.error_message or code}"
    details = {**result.details, "peer": peer_id, "peer_code": code}
    if code in _DOWN:
        return PeerUnavailable(words, details=details, retry_after_s=5)
    if code in _BROKEN:
        return PeerLost(f"The peer {peer_id} broke off in the middle of the run ({code}).", details=details)
    kind = error_class(code) if code in _OURS else None
    return (kind or PeerRejected)(words, details=details)
