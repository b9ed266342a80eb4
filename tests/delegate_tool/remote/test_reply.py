"""How a reply is read while it arrives: whatever servers send, whole, and without holding the event loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from delegate_tool.masking import HIDDEN, Secrets
from delegate_tool.protocol.result import DelegationResult, DelegationStatus, Tokens
from delegate_tool.remote.failures import explain
from delegate_tool.remote.reply import Delta, Reply
from tests.delegate_tool.remote_endpoint import chunk, sse
from tests.error_texts.texts import pattern_of

pytestmark = pytest.mark.anyio

CLIENT = AsyncOpenAI(base_url="http://far.invalid/v1", api_key="key")
"""Sends nothing: a stream wants to belong to a client."""
SECRET = "sk-quoted-secret-0123456789"


class Flood(httpx.AsyncByteStream):
    """A body whose pieces are all there already: reading one never waits."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def read(reply: Reply, *pieces: bytes) -> list[Delta]:
    """Read a stream of these pieces; return what was passed on."""
    response = httpx.Response(200, stream=Flood(pieces), request=httpx.Request("POST", "http://far/v1"))
    passed_on: list[Delta] = []
    await reply.read(AsyncStream(cast_to=ChatCompletionChunk, response=response, client=CLIENT), passed_on.append)
    return passed_on


async def result_of(body: bytes) -> DelegationResult:
    """Read a stream, and conclude what became of it."""
    reply, failure = Reply(), None
    try:
        await read(reply, body)
    except (APIError, ValueError) as error:
        failure = explain(error)
    return reply.conclude(failure)


async def test_other_tasks_get_their_turn_while_a_reply_arrives_at_full_speed() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(count_turns())
        pieces = [sse(chunk("word "), done=False)] * 1000
        deltas = await read(Reply(), *pieces, sse(chunk(finish_reason="stop")))
        counting.cancel()
    assert turns >= 1000
    assert deltas == [Delta("word ", "")] * 1000


async def test_chunks_that_arrive_together_are_passed_on_together_and_in_order() -> None:
    def think(text: str) -> dict[str, object]:
        return {"choices": [{"delta": {"reasoning": text}}]}

    together = sse(think("a"), think("b"), chunk("c"), chunk("d"), think("e"), chunk("f"), done=False)
    assert await read(Reply(), together, sse(chunk("g"))) == [Delta("cd", "ab"), Delta("f", "e"), Delta("g", "")]


async def test_what_arrived_before_a_fault_in_the_same_piece_is_passed_on() -> None:
    reply = Reply()
    with pytest.raises(ValueError, match=pattern_of("ValueError: a chunk that is not JSON")):
        await read(reply, sse(chunk("ab"), done=False) + b"data: {\n\n")
    assert reply.text == "ab"


async def test_a_secret_that_is_cut_between_pieces_is_masked_and_no_more() -> None:
    reply = Reply(Secrets.of([SECRET]))
    pieces = [sse(chunk(text), done=False) for text in ("a ", SECRET[:5], SECRET[5:20], SECRET[20:], " b", SECRET[:8])]
    deltas = await read(reply, *pieces)
    assert reply.text == "".join(delta.content for delta in deltas) == f"a {HIDDEN} b{SECRET[:8]}"


KEEP_ALIVES = [
    b'data: {"choices": null}\n\n',
    b'data: {"choices": []}\n\n',
    b'data: {"choices": [{"delta": null}]}\n\n',
    b'data: {"choices": [{"delta": {}, "finish_reason": null}], "usage": null}\n\n',
    b"data: {}\n\n",
    b"data: null\n\n",
    b"data:\n\n",
    b": keep-alive\n\n",
    b"event: ping\n\n",
    b"event: ping\ndata: now\n\n",
    b"id: 5\n\n: after an id\n\n",
    b"retry: 3000\n\n",
]


@pytest.mark.parametrize("keep_alive", KEEP_ALIVES, ids=[keep_alive.decode().strip() for keep_alive in KEEP_ALIVES])
async def test_a_keep_alive_anywhere_changes_nothing(keep_alive: bytes) -> None:
    end = {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}
    told = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    chunks = (chunk("one "), chunk("two"), end, told)
    body = keep_alive + b"".join(sse(each, done=False) + keep_alive for each in chunks) + sse() + keep_alive
    result = await result_of(body)
    assert (result.status, result.answer, result.tokens) == (DelegationStatus.FINISHED, "one two", Tokens(7, 2))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_line_separators_in_a_text_are_text(line_end: bytes) -> None:
    text = "one tw\u2028o thr\u2029ee fo\x85ur"
    body = b"data: " + json.dumps(chunk(text), ensure_ascii=False).encode() + b"\n\n" + sse(chunk(finish_reason="stop"))
    assert (await result_of(body.replace(b"\n", line_end))).answer == text


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices": [{"delta": {"content": "LO\n\n',
        b"data: 5\n\n",
        b'data: "text"\n\n',
        b'data: [{"delta": {"content": "LOST"}}]\n\n',
        b'data: {"choices": {"delta": {"content": "LOST"}}}\n\n',
        b'data: {"choices": ["LOST"]}\n\n',
        b'data: {"choices": [{"delta": "LOST"}]}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": [{"type": "image", "text": "LOST"}]}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    ],
)
async def test_a_chunk_that_cannot_be_read_is_an_error_and_never_left_out(broken: bytes) -> None:
    body = sse(chunk("ab "), done=False) + broken + sse(chunk("cd"), chunk(finish_reason="stop"))
    result = await result_of(body)
    assert (result.status, result.error_code, result.answer) == (DelegationStatus.FAILED, "malformed_response", "ab ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (b'event: error\ndata: {"message": "Overloaded.", "code": "overloaded"}\n\n', "overloaded"),
        (b'data: {"object": "error", "message": "Overloaded.", "code": 503}\n\n', "503"),
        (
            b'data: {"error": "Overloaded.", "choices": [{"delta": {}, "finish_reason": "error"}]}\n\n',
            "stream_error",
        ),
        (b'data: {"choices": [{"delta": {}, "finish_reason": "error"}]}\n\n', "stream_error"),
    ],
)
async def test_an_error_in_a_stream_is_recognised_in_all_its_forms(error: bytes, code: str) -> None:
    result = await result_of(sse(chunk("half"), done=False) + error)
    assert (result.status, result.error_code, result.answer) == (DelegationStatus.FAILED, code, "half")


@pytest.mark.parametrize(
    ("delta", "finish_reason", "code"),
    [
        ({}, "stop", "empty_answer"),
        ({"content": " \n"}, "stop", "empty_answer"),
        ({"reasoning": "Hm."}, "stop", "empty_answer"),
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, "tool_calls", "unanswered_tool_call"),
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, "stop", "unanswered_tool_call"),
        ({"content": "I look.", "function_call": {"name": "f"}}, "function_call", "unanswered_tool_call"),
    ],
)
async def test_no_text_or_a_tool_call_is_no_answer_of_a_plain_endpoint(
    delta: dict[str, Any], finish_reason: str, code: str
) -> None:
    result = await result_of(sse({"choices": [{"delta": delta, "finish_reason": finish_reason}]}))
    assert (result.status, result.error_code) == (DelegationStatus.FAILED, code)


async def test_parts_of_a_text_and_a_refusal_are_text() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    parts = {"choices": [{"delta": {"content": [thinking, {"type": "text", "text": "one "}]}}]}
    result = await result_of(sse(parts, {"choices": [{"delta": {"refusal": "No."}, "finish_reason": "stop"}]}))
    assert (result.status, result.answer) == (DelegationStatus.FINISHED, "one No.")


@pytest.mark.parametrize(
    "odd", [{"created": 1.5, "id": 7}, {"created": None, "model": None}, {"created": "now", "object": "x"}, {"choices": []}]
)
async def test_what_a_home_made_server_puts_around_its_chunks_does_not_matter(odd: dict[str, Any]) -> None:
    chunks = [odd | {"choices": [{"delta": {"content": "hi"}}]}, odd | {"choices": [{"finish_reason": "stop"}]}]
    assert (await result_of(sse(*chunks))).answer == "hi"
