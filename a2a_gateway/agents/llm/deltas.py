"""Split an LLM's answer into pieces of text, of reasoning and of tool calls, while it arrives.

Reads LiteLLM's chunks of both endpoints (chat completions and responses), and whole answers of models that do not stream.
`agents.narration` decides which pieces a caller receives.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from litellm.types.utils import ChatCompletionDeltaToolCall, ModelResponseStream
from openhands.sdk.llm import Message, TextContent


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    text: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of the answer's tool call number `index`. One piece, mostly the first, has the name; `arguments` is JSON text."""

    index: int
    name: str = ""
    arguments: str = ""


type Piece = TextPiece | ReasoningPiece | CallPiece


def pieces_of_chunk(chunk: object) -> Iterator[Piece]:
    """Yield the pieces of one item of a stream, of either endpoint; an item may have no pieces."""
    if isinstance(chunk, ModelResponseStream):
        yield from _chat_pieces(chunk)
    else:
        yield from _responses_pieces(chunk)


def pieces_of_message(message: Message) -> Iterator[Piece]:
    """Yield the pieces of a whole answer."""
    if message.reasoning_content:
        yield ReasoningPiece(message.reasoning_content)
    if text := "".join(part.text for part in message.content if isinstance(part, TextContent)):
        yield TextPiece(text)
    for index, call in enumerate(message.tool_calls or ()):
        yield CallPiece(index, call.name, call.arguments)


def _chat_pieces(chunk: ModelResponseStream) -> Iterator[Piece]:
    for choice in chunk.choices:
        delta = choice.delta
        if reasoning := getattr(delta, "reasoning_content", None):
            yield ReasoningPiece(reasoning)
        if delta.content:
            yield TextPiece(delta.content)
        for call in delta.tool_calls or ():
            if isinstance(call, ChatCompletionDeltaToolCall):  # the other kind is of custom tools, which are never offered
                yield CallPiece(call.index, call.function.name or "", call.function.arguments or "")


def _responses_pieces(event: Any) -> Iterator[Piece]:
    kind = getattr(event, "type", "")
    match kind.value if isinstance(kind, Enum) else kind:
        case "response.output_text.delta" | "response.refusal.delta":
            yield TextPiece(event.delta)
        case "response.reasoning_summary_text.delta":
            yield ReasoningPiece(event.delta)
        case "response.function_call_arguments.delta":
            yield CallPiece(event.output_index, arguments=event.delta)
        case "response.output_item.added":
            if _item_value(event.item, "type") == "function_call":
                yield CallPiece(event.output_index, name=str(_item_value(event.item, "name") or ""))


def _item_value(item: object, name: str) -> object:
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
