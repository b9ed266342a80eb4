"""Parse the chunks of a streamed chat completion, as OpenAI and the many servers that imitate it send them.

An empty chunk (`choices: null`, `delta: null`, `{}`) is a keep-alive. A chunk that cannot be parsed is an error and is never
skipped, because its text would be missing from the answer. Only choices and usage are read, so the form of other members
(`created`, `id`, `object`, `model`) does not matter. `reply` uses this module.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from delegate_tool.protocol.text import well_formed
from delegate_tool.remote.sse import ServerSentEvent

_KEEP_ALIVES: Final = frozenset({"heartbeat", "keep-alive", "keepalive", "ping"})
"""Names of events that carry no chunk, whatever their data."""
_END: Final = b"[DONE]"
_NOTHING: Final[Mapping[str, object]] = {}


class ErrorInStream(Exception):
    """The server reports an error in the stream; `body` is its error object, or its text."""

    def __init__(self, body: object) -> None:
        super().__init__("the endpoint reported an error in the stream")
        self.body = body


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk adds to the answer.

    Attributes:
        usage: the chunk's usage object, if it has one.
        asks_for_tools: whether the chunk has a piece of a tool call.
    """

    content: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, object] | None = field(default=None)
    asks_for_tools: bool = False


def is_end(event: ServerSentEvent) -> bool:
    """Return whether an event is the mark after the last chunk."""
    return event.data.strip() == _END


def parse_chunk(event: ServerSentEvent) -> Chunk:
    """Parse the data of one event.

    Raises:
        ErrorInStream: the event is an error instead of a chunk.
        ValueError: the event is not a chunk.
    """
    if event.name in _KEEP_ALIVES:
        return Chunk()
    try:
        data = json.loads(event.data)
    except RecursionError:
        raise ValueError("a chunk of its stream is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"a chunk of its stream is not JSON ({error})") from None
    if not isinstance(data, Mapping):
        if data is None:
            return Chunk()
        raise ValueError("a chunk of its stream is not a JSON object")
    if data.get("error") or event.name == "error" or data.get("object") == "error":
        raise ErrorInStream(data.get("error") or data)
    return _chunk(data)


def _chunk(data: Mapping[str, object]) -> Chunk:
    content, reasoning, finish_reason, asks_for_tools = "", "", None, False
    for choice in _items(data.get("choices"), "choices"):
        delta = _object(choice.get("delta"), "delta")
        content += _text(delta, "content") + _text(delta, "refusal")
        reasoning += _thinking(delta) + (_text(delta, "reasoning_content") or _text(delta, "reasoning"))
        asks_for_tools |= bool(delta.get("tool_calls") or delta.get("function_call"))
        reason = choice.get("finish_reason")
        finish_reason = reason if isinstance(reason, str) and reason else finish_reason
    usage = data.get("usage")
    return Chunk(content, reasoning, finish_reason, usage if isinstance(usage, Mapping) else None, asks_for_tools)


def _items(value: object, name: str) -> list[Mapping[str, object]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{name} in a chunk of its stream is not a list")
    return [_object(item, name) for item in value]


def _object(value: object, name: str) -> Mapping[str, object]:
    if value is None:
        return _NOTHING
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} in a chunk of its stream is not an object")
    return value


def _text(delta: Mapping[str, object], name: str) -> str:
    """Read a text, or the texts of a list of parts, which Mistral's reasoning models send."""
    value = delta.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return well_formed(value)
    if not isinstance(value, list):
        raise ValueError(f"{name} in a chunk of its stream is not text")
    return "".join(_text(part, "text") for part in _parts(value, "text"))


def _thinking(delta: Mapping[str, object]) -> str:
    content = delta.get("content")
    if not isinstance(content, list):
        return ""
    return "".join(_text(part, "thinking") for part in _parts(content, "thinking"))


def _parts(parts: list[object], kind: str) -> Iterator[Mapping[str, object]]:
    """Yield the parts of one kind. An unknown kind is an error, because its content would be lost."""
    for item in parts:
        part = _object(item, "content")
        if part.get("type") not in ("text", "thinking", "reference"):
            raise ValueError("content in a chunk of its stream has a part of an unknown type")
        if part["type"] == kind:
            yield part
