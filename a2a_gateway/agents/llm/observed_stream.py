"""Pass one LLM call's stream to the SDK: count its pieces, send them to an observer, and check that the stream is complete."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Protocol

from openhands.sdk.llm import Message

from a2a_gateway.agents.llm.call import LLMCall
from a2a_gateway.agents.llm.deltas import Piece
from a2a_gateway.agents.llm.providers.stream_reading import StreamReading
from a2a_gateway.agents.llm.truncated_streams import check_damage, check_end, convert_incomplete


class TurnObserver(Protocol):
    """Receives the LLM's answers while they arrive.

    For each turn: `begin_turn`, `add` for each piece, then `end_turn` or `abort_turn`.
    """

    def begin_turn(self) -> None:
        """Begin the answer of another LLM call."""

    def add(self, piece: Piece) -> None:
        """Receive a piece of the answer."""

    def end_turn(self, message: Message) -> None:
        """Receive the complete answer."""

    def abort_turn(self) -> None:
        """End a turn whose answer has broken off or was rejected."""


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
                # Without this, all items that arrived together would be read at once, and every other run would wait.
                await asyncio.sleep(0)
            yield convert_incomplete(stream, item)
    except Exception:
        # Checked first, because LiteLLM's error for a damaged stream may look like a refusal.
        check_damage(_reading_of(call), model)
        raise
    if call is not None:
        call.attempt.end(stream)
    check_end(stream, _reading_of(call), model)


def _reading_of(call: LLMCall | None) -> StreamReading | None:
    # Looked up late: for some providers LiteLLM sends the request only when the first item is read.
    return None if call is None else call.attempt.reading
