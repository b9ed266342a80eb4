"""Count the pieces of one LLM call's stream on the way to the SDK, pass them to an observer, and check that the end came."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Protocol

from openhands.sdk.llm import Message

from a2a_gateway.agents.llm.call import LLMCall
from a2a_gateway.agents.llm.deltas import Piece
from a2a_gateway.agents.llm.providers.stream_reading import StreamReading
from a2a_gateway.agents.llm.truncated_streams import check_damage, check_end, convert_incomplete


class TurnObserver(Protocol):
    """A receiver of the LLM's answers while they arrive."""

    def begin_turn(self) -> None: ...

    def add(self, piece: Piece) -> None: ...

    def end_turn(self, message: Message) -> None: ...

    def abort_turn(self) -> None: ...


async def observe_stream(
    items: AsyncIterable[Any], stream: Any, call: LLMCall | None, observer: TurnObserver | None, model: str
) -> AsyncIterator[Any]:
    """Yield the items of LiteLLM's `stream`, which the SDK reads as `items`.

    Raises:
        APIConnectionError: a part of the answer could not be parsed, or its end did not come.
    """
    try:
        async for item in items:
            pieces = call.attempt.receive(item) if call is not None else ()
            if observer is not None:
                for piece in pieces:
                    observer.add(piece)
            if pieces:
                # Otherwise all items that arrived together would be read at once, while every other run of the process waits.
                await asyncio.sleep(0)
            yield convert_incomplete(stream, item)
    except Exception:
        check_damage(_reading_of(call), model)  # has precedence: LiteLLM's error for a damaged stream may look like a refusal
        raise
    if call is not None:
        call.attempt.end(stream)
    check_end(stream, _reading_of(call), model)


def _reading_of(call: LLMCall | None) -> StreamReading | None:
    # Only known once the stream has been read: for some providers LiteLLM sends the request when the first item is read.
    return None if call is None else call.attempt.reading
