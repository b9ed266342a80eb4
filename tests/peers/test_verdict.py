"""What a peer's answer means here, and what it is paid; a peer that lies is paid no more than was set aside."""

import pytest

from a2a_gateway.peers.verdict import UNKNOWN, charge_of, outcome_of
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited
from a2a_gateway.runs.model import RunId, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from delegate_tool.result import DelegationResult, DelegationStatus, Tokens

ESCROW = Hold("h", RunId("r"), reserved_micro_usd=500, budget_micro_usd=500, left_micro_usd=500)


def test_an_answer_an_answer_cut_short_and_a_cancel_keep_what_was_said() -> None:
    assert outcome_of(DelegationResult(DelegationStatus.FINISHED), "b", "hi") == Finished("hi")
    assert outcome_of(DelegationResult(DelegationStatus.CANCELLED), "b", "hi") == Cancelled("hi")
    limited = outcome_of(DelegationResult(DelegationStatus.PARTIAL, stop_reason="budget_exceeded"), "b", "hi")
    assert isinstance(limited, Limited)
    assert (limited.text, limited.reason, limited.error.code) == ("hi", "budget_exceeded", "budget_exceeded")


@pytest.mark.parametrize(
    ("code", "ours", "retryable"),
    [
        ("unreachable", "peer_unavailable", True),
        ("capacity_exceeded", "peer_unavailable", True),
        ("stream_broken", "peer_unavailable", False),
        ("malformed_response", "peer_unavailable", False),
        ("invalid_api_key", "peer_rejected", False),
        ("agent_not_allowed", "peer_rejected", False),
        ("something_new", "peer_rejected", False),
        ("delegation_depth_exceeded", "delegation_depth_exceeded", False),
        ("budget_exceeded", "budget_exceeded", False),
        ("agent_stuck", "agent_stuck", False),
        ("gateway_loop_detected", "gateway_loop_detected", False),
    ],
)
def test_a_failure_of_a_peer_is_one_of_ours_or_between_us_and_it(code: str, ours: str, retryable: bool) -> None:
    outcome = outcome_of(DelegationResult(DelegationStatus.FAILED, error_code=code, error_message="words"), "b", "")
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.retryable) == (ours, retryable)
    assert outcome.error.details["peer_code"] == code


def test_a_peer_is_paid_what_it_tells_and_never_more_than_was_set_aside() -> None:
    told = DelegationResult(
        DelegationStatus.FINISHED, cost_micro_usd=300, cost_complete=True, turns=2, runs=3, tree_tokens=Tokens(10, 5)
    )
    assert charge_of(told, ESCROW) == Charge(TokenUsage(10, 5), 300, complete=True, turns=2, runs=2)
    greedy = DelegationResult(DelegationStatus.FINISHED, cost_micro_usd=501, cost_complete=True, runs=1)
    assert charge_of(greedy, ESCROW) == Charge(TokenUsage(), 500, complete=False)
    unbounded = Hold("h", RunId("r"))
    assert charge_of(greedy, unbounded).cost_micro_usd == 501
    silent = DelegationResult(DelegationStatus.FINISHED, runs=1)
    assert charge_of(silent, ESCROW) == Charge(TokenUsage(), None, complete=False)


def test_a_peer_that_refused_or_was_not_reached_is_paid_nothing_and_one_that_broke_off_is_asked_later() -> None:
    refused = DelegationResult(DelegationStatus.REFUSED, cost_micro_usd=9, error_code="agent_not_allowed")
    unreached = DelegationResult(DelegationStatus.FAILED, error_code="unreachable")
    assert charge_of(refused, ESCROW) == charge_of(unreached, ESCROW) == Charge(turns=0)
    assert charge_of(DelegationResult(DelegationStatus.FAILED, error_code="stream_broken"), ESCROW) == UNKNOWN
