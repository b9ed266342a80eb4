"""The header codec of the delegation context: what is sent is what is read."""

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate_tool.protocol.context import (
    ContextError,
    DelegationBinding,
    DelegationContext,
    Narration,
    OnDisconnect,
    decode_body,
    decode_headers,
    encode_headers,
    refuse_header,
    unknown_headers,
)
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.money import format_usd

counts = st.integers(0, 10**9)
model_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", fullmatch=True)
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)

contexts = st.builds(
    DelegationContext,
    max_depth=st.none() | counts,
    depth=st.none() | counts,
    budget_micro_usd=st.none() | st.integers(0, 10**15),
    max_runs=st.none() | counts,
    max_breadth=st.none() | st.integers(1, 10**9),
    timeout_s=st.none() | st.integers(1, 10**9).map(lambda ms: ms / 1000),
    max_turns=st.none() | st.integers(1, 10**9),
    allowed_agents=st.none() | st.frozensets(model_ids, max_size=4),
    via=st.lists(model_ids, max_size=4, unique=True).map(tuple),
    trail=st.lists(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), max_size=4, unique=True).map(tuple),
    on_disconnect=st.none() | st.sampled_from(OnDisconnect),
    narration=st.none() | st.sampled_from(Narration),
    idempotency_key=st.none() | visible,
    conversation_id=st.none() | st.uuids().map(str),
    traceparent=st.none() | visible,
    tracestate=st.none() | visible,
)


@given(contexts)
def test_a_context_survives_its_headers(context: DelegationContext) -> None:
    assert decode_headers(encode_headers(context)) == context


@given(contexts)
def test_header_names_are_matched_in_any_case(context: DelegationContext) -> None:
    assert decode_headers({name.upper(): value for name, value in encode_headers(context).items()}) == context


@given(contexts)
def test_a_context_survives_a_body(context: DelegationContext) -> None:
    context = replace(context, traceparent=None, tracestate=None)
    body = {
        item.name: sorted(value) if isinstance(value, frozenset) else value
        for item in fields(context)
        if (value := getattr(context, item.name)) not in (None, ()) and item.name != "budget_micro_usd"
    }
    if context.budget_micro_usd is not None:
        body["budget_usd"] = format_usd(context.budget_micro_usd)
    assert decode_body(body) == context


@given(contexts, contexts)
def test_combining_contexts_never_widens_a_limit(first: DelegationContext, second: DelegationContext) -> None:
    both = first.narrowed_by(second)
    for name in ("max_depth", "budget_micro_usd", "max_runs", "max_breadth", "timeout_s", "max_turns"):
        asked = [getattr(context, name) for context in (first, second) if getattr(context, name) is not None]
        assert getattr(both, name) == (min(asked) if asked else None)
    for context in (first, second):
        if context.allowed_agents is not None:
            assert both.allowed_agents is not None
            assert both.allowed_agents <= context.allowed_agents
        if context.depth is not None:
            assert both.depth is not None
            assert both.depth >= context.depth
        assert set(context.via) <= set(both.via)


@given(contexts)
def test_combining_a_context_with_nothing_or_itself_changes_nothing(context: DelegationContext) -> None:
    assert context.narrowed_by(DelegationContext()) == context.narrowed_by(context) == context


@given(st.dictionaries(st.sampled_from(["X-A2A-Max-Depth", "X-A2A-Budget-USD", "X-A2A-Timeout", "X-A2A-Via"]), st.text()))
def test_any_header_text_is_read_or_refused_by_name(headers: dict[str, str]) -> None:
    try:
        decode_headers(headers)
    except ContextError as error:
        assert error.param in headers


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-A2A-Max-Depth", "-1"),
        ("X-A2A-Max-Depth", "1.0"),
        ("X-A2A-Max-Depth", "١"),
        ("X-A2A-Budget-USD", "-1"),
        ("X-A2A-Budget-USD", "1e3"),
        ("X-A2A-Budget-USD", "0.0000001"),
        ("X-A2A-Budget-USD", "NaN"),
        ("X-A2A-Max-Breadth", "0"),
        ("X-A2A-Timeout", "0"),
        ("X-A2A-Timeout", "inf"),
        ("X-A2A-Allowed-Agents", "ok,not ok"),
        ("X-A2A-On-Disconnect", "wait"),
        ("X-A2A-Narration", "loud"),
        ("X-A2A-Workspace", "src"),
        ("Idempotency-Key", "two words"),
        ("Idempotency-Key", "x" * 256),
        ("X-OpenHands-ServerConversation-ID", "7"),
    ],
)
def test_a_malformed_header_is_refused_by_its_name(header: str, value: str) -> None:
    with pytest.raises(ContextError) as refusal:
        decode_headers({header.lower(): value})
    assert refusal.value.param == header


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("x-a2a-max-dept", "X-A2A-Max-Depth"),
        ("X-A2A-MaxDepth", "X-A2A-Max-Depth"),
        ("X_A2A_Max_Depth", "X-A2A-Max-Depth"),
        ("x-a2a_max-turns", "X-A2A-Max-Turns"),
        ("X-A2A-Budget", "X-A2A-Budget-USD"),
        ("X-A2A-Timeout-S", "X-A2A-Timeout"),
        ("X-A2A-Allowed-Agent", "X-A2A-Allowed-Agents"),
        ("X-A2A-On_Disconnect", "X-A2A-On-Disconnect"),
    ],
)
def test_a_misspelt_header_is_refused_with_the_one_that_was_meant(written: str, meant: str) -> None:
    assert unknown_headers([written, "X-A2A-Max-Depth", "x-a2a-run-id", "Accept"]) == [written]
    refusal = refuse_header(written)
    assert refusal.param == written
    assert f"did you mean {meant}?" in str(refusal)


@pytest.mark.parametrize("written", ["X-A2A-", "X-A2A-\xff\x85", "X-A2A-Quux", "X-A2A-" + "x" * 100_000])
def test_a_header_unlike_all_others_is_refused_without_a_guess(written: str) -> None:
    assert unknown_headers([written]) == [written]
    refusal = refuse_header(written)
    assert len(refusal.param) <= 60
    assert "did you mean" not in str(refusal)


@pytest.mark.parametrize("name", [*Header, "X-A2A-Extensions", "X-A2B-Depth", "A2A-Version", "X_A2AX", ""])
def test_a_header_that_is_known_or_anothers_is_not_unknown(name: str) -> None:
    assert unknown_headers([name, name.lower(), name.upper()]) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"budget_usd": 0.5, "max_depth": 2}, DelegationContext(budget_micro_usd=500_000, max_depth=2)),
        ({"allowed_agents": ["a", "b"], "timeout_s": 1.5}, DelegationContext(allowed_agents=frozenset("ab"), timeout_s=1.5)),
        ({"conversation_id": UUID(int=7).hex}, DelegationContext(conversation_id=str(UUID(int=7)))),
        ({"max_depth": None}, DelegationContext()),
    ],
)
def test_a_body_may_use_numbers_and_lists(body: dict[str, Any], expected: DelegationContext) -> None:
    assert decode_body(body) == expected


@pytest.mark.parametrize("body", [[], {"max_depth": True}, {"depht": 1}, {"timeout_s": float("nan")}, {"via": [1]}])
def test_a_malformed_body_is_refused(body: object) -> None:
    with pytest.raises(ContextError):
        decode_body(body)


@pytest.mark.parametrize("text", ["\xe9", "a=1\tb", "x" * 513])
def test_a_trace_that_could_not_be_sent_on_is_dropped(text: str) -> None:
    assert decode_headers({"traceparent": text, "tracestate": text}) == DelegationContext()


def test_a_binding_does_not_show_its_token() -> None:
    assert "s3cret" not in repr(DelegationBinding("http://gateway", "s3cret", "run-1", "openhands_lead"))


class _Repeated(dict[str, str]):
    """Headers as a server has them: a name may come more than once."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Any:
        return self._pairs


def test_a_limit_sent_twice_is_refused_by_name() -> None:
    with pytest.raises(ContextError) as refused:
        decode_headers(_Repeated(("X-A2A-Budget-USD", "1"), ("x-a2a-budget-usd", "5")))
    assert refused.value.param == "X-A2A-Budget-USD"


def test_a_list_sent_in_two_headers_is_one_list() -> None:
    assert decode_headers(_Repeated(("X-A2A-Via", "a"), ("x-a2a-via", "b, c"))) == DelegationContext(via=("a", "b", "c"))


def test_a_time_too_short_to_write_is_the_shortest_there_is() -> None:
    assert decode_headers(encode_headers(DelegationContext(timeout_s=1e-9))) == DelegationContext(timeout_s=0.001)
