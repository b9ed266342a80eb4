"""What a peer's answer means here, and what it is paid; a peer that lies is paid no more than was set aside."""

from typing import Any

import pytest

from a2a_gateway.peers.outcomes import UNKNOWN, charge_of, outcome_of
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited
from a2a_gateway.runs.model import RunId, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from delegate_tool.protocol.result import DelegationResult, DelegationStatus, Tokens

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
        ("malformed_response", "peer_rejected", False),
        ("http_504", "peer_unavailable", False),
        ("http_418", "peer_rejected", False),
        ("invalid_api_key", "peer_rejected", False),
        ("agent_not_allowed", "peer_rejected", False),
        ("something_new", "peer_rejected", False),
        ("delegation_depth_exceeded", "delegation_depth_exceeded", False),
        ("budget_exceeded", "budget_exceeded", False),
        ("agent_stuck", "agent_stuck", False),
        ("max_turns_exceeded", "max_turns_exceeded", False),
        ("gateway_loop_detected", "gateway_loop_detected", False),
    ],
)
def test_a_failure_of_a_peer_is_one_of_ours_or_between_us_and_it(code: str, ours: str, retryable: bool) -> None:
    outcome = outcome_of(DelegationResult(DelegationStatus.FAILED, error_code=code, error_message="words"), "b", "")
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.retryable) == (ours, retryable)
    assert outcome.error.details["peer_code"] == code


@pytest.mark.parametrize(
    ("code", "http_status", "ours", "retryable"),
    [
        ("rate_limit_exceeded", 429, "llm_rate_limited", True),
        ("http_429", 429, "llm_rate_limited", True),
        ("1302", 429, "llm_rate_limited", True),
        ("llm_rate_limited", 429, "llm_rate_limited", True),
        ("capacity_exceeded", 429, "peer_unavailable", True),
        ("not_ready", 503, "peer_unavailable", True),
        ("insufficient_quota", 429, "peer_rejected", False),
    ],
)
def test_a_rate_limit_keeps_its_kind_and_its_retry_after(code: str, http_status: int, ours: str, retryable: bool) -> None:
    told = failure(code, http_status=http_status, retry_after_s=37.0)
    outcome = outcome_of(told, "b", "")
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.retryable) == (ours, retryable)
    assert outcome.error.retry_after_s == (37.0 if retryable else None)


@pytest.mark.parametrize(
    ("code", "http_status", "words", "ours"),
    [
        ("http_400", 400, "prompt is too long: 210000 tokens > 200000 maximum", "context_length_exceeded"),
        ("invalid_request_error", 400, "This model's maximum context length is 65536 tokens.", "context_length_exceeded"),
        ("rate_limit_exceeded", 413, "Request too large: tokens per minute (TPM): Limit 6, Requested 9", "llm_rate_limited"),
        ("http_400", 400, "filtered by the content management policy", "content_filter"),
        ("http_402", 402, "Insufficient credits", "peer_rejected"),
        ("request_too_large", 413, "The body is too large.", "peer_rejected"),
    ],
)
def test_what_a_plain_endpoint_refuses_is_told_by_its_words(code: str, http_status: int, words: str, ours: str) -> None:
    refused = DelegationResult(DelegationStatus.FAILED, error_code=code, error_message=words, http_status=http_status)
    outcome = outcome_of(refused, "b", "")
    assert isinstance(outcome, Failed)
    assert outcome.error.code == ours


@pytest.mark.parametrize(
    ("reason", "ours"), [("deadline_exceeded", "deadline_exceeded"), ("invalid_api_key", "run_failed"), ("length", "run_failed")]
)
def test_a_limit_that_a_peer_names_is_one_of_a_run(reason: str, ours: str) -> None:
    outcome = outcome_of(DelegationResult(DelegationStatus.PARTIAL, stop_reason=reason), "b", "")
    assert isinstance(outcome, Limited)
    assert (outcome.reason, outcome.error.code) == ("max_tokens" if reason == "length" else reason, ours)


def test_a_peer_whose_database_failed_during_the_run_may_have_done_something() -> None:
    outcome = outcome_of(failure("store_unavailable", run_id="far"), "b", "half")
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.retryable, outcome.text) == ("peer_unavailable", False, "half")
    before = outcome_of(failure("store_unavailable"), "b", "")
    assert isinstance(before, Failed)
    assert before.error.retryable


def charge_on(result: DelegationResult, hold: Hold = ESCROW, *, has_begun: bool = True) -> Charge:
    return charge_of(result, hold, has_begun=has_begun)


def answer(cost_micro_usd: int | None, **fields: Any) -> DelegationResult:
    return DelegationResult(
        DelegationStatus.FINISHED,
        cost_micro_usd=cost_micro_usd,
        **{"runs": 1, "cost_complete": True, "cost_final": True, **fields},
    )


def failure(code: str, **fields: Any) -> DelegationResult:
    return DelegationResult(DelegationStatus.FAILED, error_code=code, **fields)


def test_a_peer_is_paid_what_it_tells_and_never_more_than_was_set_aside() -> None:
    told = answer(300, turns=2, runs=3, tree_tokens=Tokens(10, 5))
    assert charge_on(told) == Charge(TokenUsage(10, 5), 300, complete=True, turns=2, runs=2)
    assert charge_on(answer(501)) == Charge(TokenUsage(), 500, complete=False)
    assert charge_on(answer(501), Hold("h", RunId("r"))) == Charge(TokenUsage(), 501)


def test_a_gateway_that_does_not_know_yet_is_asked_later() -> None:
    pending = answer(300, cost_complete=False, cost_final=False)
    assert charge_on(pending) == Charge(TokenUsage(), 300, complete=False, final=False)
    assert charge_on(answer(300, cost_complete=False)) == Charge(TokenUsage(), 300, complete=False)
    silent = answer(None, cost_complete=False, cost_final=False)
    assert charge_on(silent) == charge_on(failure("stream_broken")) == UNKNOWN


@pytest.mark.parametrize(
    "nothing_done",
    [
        DelegationResult(DelegationStatus.REFUSED, error_code="agent_not_allowed", cost_micro_usd=0),
        failure("unreachable"),
        failure("invalid_api_key"),
        failure("capacity_exceeded"),
        failure("http_418"),
    ],
)
def test_a_peer_that_refused_or_was_not_reached_is_paid_nothing(nothing_done: DelegationResult) -> None:
    assert charge_on(nothing_done, has_begun=False) == Charge(turns=0)


@pytest.mark.parametrize("something_done", [failure("http_504"), failure("stream_broken"), failure("agent_error", run_id="far")])
def test_a_peer_that_may_have_done_something_is_asked_later(something_done: DelegationResult) -> None:
    assert charge_on(something_done, has_begun=False) == UNKNOWN


def test_a_run_that_was_refused_further_calls_after_it_had_worked_is_paid() -> None:
    ended = DelegationResult(
        DelegationStatus.REFUSED,
        error_code="budget_exceeded",
        cost_micro_usd=300,
        cost_complete=True,
        cost_final=True,
        run_id="r",
    )
    assert charge_on(ended, has_begun=False) == Charge(TokenUsage(), 300)
