"""What a peer is sent: all that was asked here, and limits that are narrower than those of the run here."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.peers.forwarded_request import limits_for_peer, render_body
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import AdmittedRun, RunRecord, RunRequest
from a2a_gateway.runs.ports import Hold
from a2a_gateway.wire.chat.request import CompletionRequest, parse_chat_request
from delegate_tool.protocol.context import DelegationContext, Narration, decode_headers, encode_headers
from tests.support.records import make_run_record
from tests.wire.chat.test_request_properties import requests

RECORD = make_run_record(
    "11111111-1111-4111-8111-111111111111",
    agent="box/openhands_a",
    depth=1,
    limits=Limits(
        max_depth=4,
        max_breadth=2,
        max_runs=7,
        timeout_s=100,
        max_turns=9,
        budget_micro_usd=900_000,
        allowed_agents=frozenset({"openhands_local", "box/openhands_a", "box/inner/openhands_b"}),
    ),
)
ASKED = RunRequest("box/openhands_a", ())


def run_of(request: RunRequest, record: RunRecord = RECORD) -> AdmittedRun:
    return AdmittedRun(
        record=record,
        profile="openhands_a",
        messages=request.messages,
        sampling=request.sampling,
        answer_format=request.answer_format,
        narration=Narration.LIVE,
        workspace_dir="",
        timeout_s=100.0,
        peer="box",
        via=("first",),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def context_of(record: RunRecord, hold: Hold) -> DelegationContext:
    return limits_for_peer(run_of(ASKED, record), hold, gateway_id="here", peer_id="box", conversation_id=None)


@given(requests())
def test_a_forwarded_request_is_read_as_the_one_that_came(sent: CompletionRequest) -> None:
    request = sent.run
    body = render_body(run_of(request), "openhands_a")
    read = parse_chat_request(json.dumps({**body, "stream": True}).encode(), {})
    run = read.run
    assert (run.model, run.messages, run.sampling, run.answer_format, read.stream, read.include_usage) == (
        "openhands_a",
        request.messages,
        request.sampling,
        request.answer_format,
        True,
        True,
    )


def test_a_peer_is_told_the_limits_of_the_run_in_its_own_names() -> None:
    hold = Hold("h", RECORD.id, reserved_micro_usd=400_000, budget_micro_usd=400_000, left_micro_usd=400_000)
    told = context_of(RECORD, hold)
    assert told == DelegationContext(
        max_depth=4,
        depth=1,
        budget_micro_usd=400_000,
        max_runs=7,
        max_breadth=2,
        timeout_s=98.0,
        max_turns=9,
        allowed_agents=frozenset({"openhands_a", "inner/openhands_b"}),
        via=("first", "here"),
        narration=Narration.LIVE,
        idempotency_key=RECORD.id,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert decode_headers(encode_headers(told)) == told


@given(st.booleans(), st.integers(0, 10**9))
def test_without_a_budget_none_is_told_and_with_one_no_more_than_was_set_aside(is_bounded: bool, micro_usd: int) -> None:
    limits = replace(RECORD.limits, allowed_agents=None, budget_micro_usd=micro_usd if is_bounded else None)
    bound = micro_usd if is_bounded else None
    told = context_of(replace(RECORD, limits=limits), Hold("h", RECORD.id, bound or 0, budget_micro_usd=bound))
    assert (told.budget_micro_usd, told.allowed_agents) == (bound, None)
