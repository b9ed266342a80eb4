"""What is kept of a run's end: it is decoded as it was encoded, and rows of earlier versions still are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import BudgetExceeded, LLMUnavailable
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    Outcome,
    ReasoningDelta,
    RunEvent,
    ToolFinished,
    ToolStarted,
)
from a2a_gateway.runs.kept_outcome import (
    KeptOutcome,
    MessageItem,
    ReasoningItem,
    decode_kept_outcome,
    encode_kept_outcome,
    keep_outcome,
)

DELTAS = st.lists(st.builds(ContentDelta, st.text()) | st.builds(ReasoningDelta, st.text()))


def decode_again(kept: KeptOutcome) -> KeptOutcome:
    again = decode_kept_outcome(encode_kept_outcome(kept))
    assert again is not None
    return again


@given(DELTAS)
def test_an_answer_is_decoded_as_it_was_encoded(deltas: list[RunEvent]) -> None:
    text = "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta))
    reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    kept = keep_outcome(Finished(text), deltas)
    assert decode_again(kept) == kept
    assert "".join(item.text for item in kept.output if isinstance(item, MessageItem)) == text
    assert "".join(item.text for item in kept.output if isinstance(item, ReasoningItem)) == reasoning


def test_output_is_kept_in_the_order_in_which_it_was_published() -> None:
    events: list[RunEvent] = [
        ReasoningDelta("Let me "),
        ReasoningDelta("look."),
        ContentDelta("I look. "),
        ToolStarted("terminal", "c1"),
        ToolFinished("terminal", "c1"),
        ContentDelta("Found. "),
        ReasoningDelta("Good."),
        ContentDelta("Done."),
    ]
    kept = decode_again(keep_outcome(Finished("I look. Found. Done."), events))
    assert kept.output == (
        ReasoningItem("Let me look."),
        MessageItem("I look. Found. "),
        ReasoningItem("Good."),
        MessageItem("Done."),
    )


@pytest.mark.parametrize("text", ["", "half"])
def test_the_text_of_a_failure_is_kept_although_it_was_not_published(text: str) -> None:
    error = LLMUnavailable("The LLM is down.", details={"provider_status": 503})
    kept = decode_again(keep_outcome(Failed(error, text), [ReasoningDelta("hm")]))
    assert isinstance(kept.outcome, Failed)
    assert (kept.outcome.text, kept.outcome.error.code) == (text, error.code)
    assert (kept.outcome.error.message, kept.outcome.error.details) == (error.message, error.details)
    assert kept.output == (ReasoningItem("hm"), *((MessageItem(text),) if text else ()))


def test_a_limit_and_a_cancellation_keep_their_reasons() -> None:
    limited = decode_again(keep_outcome(Limited("half", "budget_exceeded", BudgetExceeded("spent")), [ContentDelta("half")]))
    assert isinstance(limited.outcome, Limited)
    assert (limited.outcome.reason, limited.outcome.error.code) == ("budget_exceeded", "budget_exceeded")
    assert decode_again(keep_outcome(Cancelled("half", "Why."), ())).outcome == Cancelled("half", "Why.")


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"kind": "finished"}, Finished("It is 42.")),
        ({"kind": "cancelled"}, Cancelled("It is 42.")),
        ({"kind": "cancelled", "why": "Why."}, Cancelled("It is 42.", "Why.")),
    ],
)
def test_a_row_of_the_first_version_is_decoded(fields: dict[str, str], outcome: Outcome) -> None:
    row = json.dumps({"version": 1, "text": "It is 42.", "reasoning": "Let me see.", **fields})
    assert decode_kept_outcome(row) == KeptOutcome(outcome, (ReasoningItem("Let me see."), MessageItem("It is 42.")))


def test_a_failure_of_the_first_version_is_decoded() -> None:
    error = {
        "code": "llm_unavailable",
        "retryable": LLMUnavailable.retryable,
        "message": "Down.",
        "param": None,
        "details": {"a": 1},
    }
    kept = decode_kept_outcome(json.dumps({"version": 1, "text": "", "reasoning": "", "kind": "failed", "error": error}))
    assert kept is not None
    assert isinstance(kept.outcome, Failed)
    assert (type(kept.outcome.error), kept.outcome.error.details, kept.output) == (LLMUnavailable, {"a": 1}, ())


def test_a_row_of_a_later_version_counts_as_not_kept() -> None:
    assert decode_kept_outcome('{"version": 3}') is None
