"""Streams and completions, read by OpenAI's own types and by its own client."""

import json
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from a2a_gateway.errors import AgentFailed, DeadlineExceeded, GatewayError, LLMUnavailable
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    Outcome,
    ReasoningDelta,
    RunEvent,
    RunFinished,
    RunStarted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.model import RunId, TokenUsage
from a2a_gateway.wire.chat.response import ChunkRenderer, render_completion
from a2a_gateway.wire.outcome import WireAnswer, render_outcome
from tests.support.sse import decode_events
from tests.wire.samples import RECORD, SUMMARY, end_of

STARTED = RunStarted(RECORD)
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 800},
    "completion_tokens_details": {"reasoning_tokens": 20},
    "cost": 0.0123,
    "cost_details": {
        "self": "0.010000",
        "descendants": "0.002300",
        "currency": "USD",
        "complete": True,
        "by_agent": [{"model": "openhands_research", "gateway": "build-box", "runs": 2, "cost": "0.002300"}],
    },
    "delegation": {
        "run_id": "run-1",
        "tree_id": "tree-1",
        "depth": 1,
        "max_depth": 3,
        "runs": 3,
        "turns": 2,
        "stop_reason": "finished",
        "budget": "0.500000",
        "remaining": "0.487700",
        "tree_tokens": {"prompt": 5200, "completion": 900},
    },
}
FACTS = {
    "run_id": "run-1",
    "tree_id": "tree-1",
    "depth": 1,
    "max_depth": 3,
    "cost_usd": "0.012300",
    "cost_complete": True,
    "budget_remaining_usd": "0.487700",
}


def renderer(*, include_usage: bool = False) -> ChunkRenderer:
    return ChunkRenderer(RunId("run-1"), "self", 1_700_000_000, include_usage=include_usage, gateway_id="build-box")


def stream(events: Sequence[RunEvent], *, include_usage: bool = False) -> bytes:
    chunks = renderer(include_usage=include_usage)
    return b"".join(map(chunks.event, events))


def payloads(sent: bytes) -> list[str]:
    return [event.data for event in decode_events(sent)]


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    return {
        "id": "chatcmpl-run-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "self",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
    }


def test_a_run_streams_as_chunks_of_one_completion() -> None:
    *chunks, done = payloads(
        stream(
            [
                STARTED,
                ReasoningDelta("hm"),
                ContentDelta("Hel"),
                ToolStarted("terminal", "c1"),
                ToolFinished("terminal", "c1"),
                ContentDelta(""),
                ContentDelta("lo"),
                TurnFinished(1, TokenUsage(1, 1), 5),
                end_of(Finished("Hello")),
            ]
        )
    )
    assert [json.loads(data) for data in chunks] == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
    ]
    assert done == "[DONE]"
    for data in chunks:
        ChatCompletionChunk.model_validate_json(data, strict=True)


def test_usage_comes_last_when_it_is_wanted_and_is_null_before() -> None:
    *chunks, usage, done = payloads(stream([STARTED, ContentDelta("x"), end_of(Finished("x"))], include_usage=True))
    assert [json.loads(data) for data in chunks] == [
        {**chunk({"role": "assistant", "content": ""}), "usage": None},
        {**chunk({"content": "x"}), "usage": None},
        {**chunk({}, "stop"), "usage": None},
    ]
    assert (json.loads(usage), done) == ({**chunk({}), "choices": [], "usage": USAGE}, "[DONE]")
    assert ChatCompletionChunk.model_validate_json(usage, strict=True).usage is not None


def test_a_heartbeat_is_a_chunk_of_the_same_stream_that_says_nothing() -> None:
    assert [json.loads(data) for data in payloads(renderer().heartbeat())] == [chunk({})]


def test_a_failure_in_mid_stream_is_an_error_event_and_no_done() -> None:
    sent = payloads(stream([STARTED, ContentDelta("Hel"), end_of(Failed(AgentFailed("It broke."), "Hel"))], include_usage=True))
    assert json.loads(sent[-1]) == {
        "error": {
            "message": "It broke.",
            "type": "server_error",
            "param": None,
            "code": "agent_error",
            "details": {**FACTS, "partial": "Hel"},
        }
    }
    assert len(sent) == 3


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_joined_deltas_are_the_text(texts: list[str]) -> None:
    sent = payloads(stream([ContentDelta(text) for text in texts]))
    read = [ChatCompletionChunk.model_validate_json(data, strict=True).choices[0].delta.content for data in sent]
    assert read == texts


@given(st.text())
def test_every_text_leaves_as_utf8_on_one_line(text: str) -> None:
    sent = stream([ContentDelta(text + "."), ReasoningDelta(text + "."), end_of(Failed(AgentFailed(text), text))])
    assert len(sent.decode().splitlines()) == 6
    assert len(payloads(sent)) == 3


def test_halves_of_a_character_are_joined_and_a_lone_one_replaced() -> None:
    assert json.loads(payloads(stream([ContentDelta("\ud83d\ude00 \ud83d.")]))[0]) == chunk({"content": "\U0001f600 \ufffd."})


def test_a_completion_carries_answer_reasoning_and_usage() -> None:
    sent = render_completion(
        WireAnswer("Hello", "length"), SUMMARY, model="self", created=1_700_000_000, gateway_id="build-box", reasoning="hm"
    )
    assert json.loads(sent) == {
        "id": "chatcmpl-run-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "self",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "hm"},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": USAGE,
    }
    ChatCompletion.model_validate_json(sent, strict=True)


@given(st.integers(0, 10**15))
def test_the_cost_as_a_number_is_the_cost_as_text(micro_usd: int) -> None:
    run = end_of(Finished("x"), cost_tree_micro_usd=micro_usd, cost_self_micro_usd=micro_usd)
    sent = render_completion(WireAnswer("x", "stop"), run.summary, model="m", created=0, gateway_id="g")
    cost = json.loads(sent)["usage"]["cost"]
    assert f"{cost:.6f}" == json.loads(sent)["usage"]["cost_details"]["self"]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Finished("done"), WireAnswer("done", "stop")),
        (Finished(""), WireAnswer("", "stop")),
        (Limited("so far", "deadline_exceeded", DeadlineExceeded("Late.")), WireAnswer("so far", "length")),
        (Limited("so far", "content_filter", DeadlineExceeded("Late.")), WireAnswer("so far", "content_filter")),
    ],
)
def test_an_outcome_with_something_to_show_is_an_answer(outcome: Outcome, expected: WireAnswer) -> None:
    assert render_outcome(end_of(outcome)) == expected


@pytest.mark.parametrize(
    ("outcome", "code", "details"),
    [
        (Limited(" \n", "deadline_exceeded", DeadlineExceeded("Late.")), "deadline_exceeded", FACTS),
        (Failed(LLMUnavailable("Down.", details={"depth": 7})), "llm_unavailable", {**FACTS, "depth": 7}),
        (Failed(AgentFailed("It broke."), "half"), "agent_error", {**FACTS, "partial": "half"}),
        (Cancelled("half"), "run_cancelled", {**FACTS, "partial": "half"}),
        (Cancelled(), "run_cancelled", FACTS),
    ],
)
def test_an_outcome_with_nothing_to_show_is_an_error(outcome: Outcome, code: str, details: dict[str, object]) -> None:
    error = render_outcome(end_of(outcome))
    assert isinstance(error, GatewayError)
    assert (error.code, error.details) == (code, details)


class _Body(httpx.AsyncByteStream):
    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._sent), 7):
            yield self._sent[start : start + 7]


def client(sent: bytes) -> AsyncOpenAI:
    """OpenAI's client, to which a server answers with these bytes, in small pieces."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Body(sent))
    )
    return AsyncOpenAI(api_key="k", base_url="http://gateway.test/v1", http_client=httpx.AsyncClient(transport=transport))


async def read_all(sent: bytes) -> list[ChatCompletionChunk]:
    async with client(sent) as openai:
        chunks = await openai.chat.completions.create(model="self", messages=[{"role": "user", "content": "hi"}], stream=True)
        return [each async for each in chunks]


@pytest.mark.anyio
async def test_the_official_client_reads_a_stream_with_heartbeats() -> None:
    chunks = renderer(include_usage=True)
    events: list[RunEvent] = [
        STARTED,
        ContentDelta("Grüß "),
        ContentDelta("dich\u2028!"),
        end_of(Finished("Grüß dich\u2028!")),
    ]
    received = await read_all(b"".join(chunks.heartbeat() + chunks.event(event) for event in events))
    text = "".join(each.choices[0].delta.content or "" for each in received if each.choices)
    usage = received[-1].usage
    assert (text, {each.id for each in received}) == ("Grüß dich\u2028!", {"chatcmpl-run-1"})
    assert usage is not None
    assert usage.model_dump(exclude_none=True) == USAGE


@pytest.mark.anyio
async def test_the_official_client_raises_from_an_error_event() -> None:
    ending: RunFinished = end_of(Failed(AgentFailed("It broke."), "Hel"))
    with pytest.raises(APIError) as caught:
        await read_all(stream([STARTED, ContentDelta("Hel"), ending]))
    assert (caught.value.code, caught.value.message) == ("agent_error", "It broke.")
