"""How a reply is read while it arrives: in pieces, without holding the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from delegate_tool.masking import HIDDEN, Secrets
from delegate_tool.reply import Delta, Reply
from tests.delegate_tool.far_side import chunk, sse

pytestmark = pytest.mark.anyio

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
    async with AsyncOpenAI(base_url="http://far/v1", api_key="key") as client:
        stream = AsyncStream(cast_to=ChatCompletionChunk, response=response, client=client)
        await reply.read(stream, passed_on.append)
    return passed_on


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
    with pytest.raises(ValueError, match="not JSON"):
        await read(reply, sse(chunk("ab"), done=False) + b"data: {\n\n")
    assert reply.text == "ab"


async def test_a_secret_that_is_cut_between_pieces_is_masked_and_no_more() -> None:
    reply = Reply(Secrets.of([SECRET]))
    pieces = [sse(chunk(text), done=False) for text in ("a ", SECRET[:5], SECRET[5:20], SECRET[20:], " b", SECRET[:8])]
    deltas = await read(reply, *pieces)
    assert reply.text == "".join(delta.content for delta in deltas) == f"a {HIDDEN} b{SECRET[:8]}"
