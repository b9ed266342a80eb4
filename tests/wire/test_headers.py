"""Response headers: their values, and that nothing that a caller chose can break them."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.runs.model import ConversationId
from a2a_gateway.wire.headers import final_headers, start_headers
from tests.wire.samples import RECORD, SUMMARY


def test_a_run_that_starts_says_where_it_stands() -> None:
    assert start_headers(RECORD, request_id="req-1", now=1_700_000_012.25, ignored=("tools", "messages.*.name")) == {
        "X-Request-ID": "req-1",
        "X-A2A-Protocol": "1",
        "X-A2A-Run-ID": "run-1",
        "X-A2A-Tree-ID": "tree-1",
        "X-A2A-Depth": "1",
        "X-A2A-Max-Depth": "3",
        "X-A2A-Timeout": "47.750",
        "X-OpenHands-ServerConversation-ID": "0b5dd1f0-5f0c-4d0e-9a3b-0f8e3f4f2a11",
        "X-A2A-Ignored": "tools, messages.*.name",
    }


def test_time_left_is_never_negative_and_nothing_ignored_has_no_header() -> None:
    headers = start_headers(RECORD, request_id="req-1", now=RECORD.deadline_at + 5)
    assert (headers["X-A2A-Timeout"], "X-A2A-Ignored" in headers) == ("0.000", False)


def test_a_run_that_has_ended_says_what_it_cost() -> None:
    assert final_headers(SUMMARY) == {
        "X-A2A-Cost-USD": "0.012300",
        "X-A2A-Cost-Self-USD": "0.010000",
        "X-A2A-Cost-Complete": "true",
        "X-A2A-Budget-Remaining-USD": "0.487700",
        "X-A2A-Stop-Reason": "finished",
        "x-litellm-response-cost": "0.012300",
    }


def test_what_is_unknown_is_not_said() -> None:
    summary = replace(SUMMARY, record=replace(RECORD, cost_complete=False, stop_reason=None), remaining_micro_usd=None)
    assert final_headers(summary) == {
        "X-A2A-Cost-USD": "0.012300",
        "X-A2A-Cost-Self-USD": "0.010000",
        "X-A2A-Cost-Complete": "false",
    }


@given(st.text(), st.text(), st.lists(st.text(), max_size=40))
def test_headers_are_visible_ascii_and_bounded(request_id: str, conversation_id: str, ignored: list[str]) -> None:
    record = replace(RECORD, conversation_id=ConversationId(conversation_id), stop_reason=request_id)
    headers = {
        **start_headers(record, request_id=request_id, now=0.0, ignored=ignored),
        **final_headers(replace(SUMMARY, record=record)),
    }
    for value in headers.values():
        assert len(value) <= 1024
        assert all(" " <= char <= "~" for char in value)


def test_an_ignored_name_cannot_pass_for_two_or_start_a_header() -> None:
    headers = start_headers(RECORD, request_id="r", now=0.0, ignored=("a, b", "c\r\nX-Evil: 1"))
    assert headers["X-A2A-Ignored"] == "a%2C%20b, c%0D%0AX-Evil%3A%201"


def test_many_ignored_names_are_cut_between_names() -> None:
    value = start_headers(RECORD, request_id="r", now=0.0, ignored=[f"field_{number:03}" for number in range(200)])[
        "X-A2A-Ignored"
    ]
    *names, rest = value.split(", ")
    assert (rest, names) == ("...", [f"field_{number:03}" for number in range(len(names))])
