"""Know the formats in which providers answer: repair what a server leaves out, and see where an answer ends. Pure.

LiteLLM fails at values that servers send beside or instead of those of the specification (`choices: null`, numeric ids), drops
tool calls without an id, merges calls with the same index, and reports a stream that was cut as finished. Each class here reads
the answers of one format, before LiteLLM does.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from uuid import uuid4

from a2a_gateway.agents.call_ids import CallIds, StreamedCalls, repair_function
from a2a_gateway.agents.stream_events import AnswerDamaged

type Json = dict[str, Any]

_ANTHROPIC_TYPES: Final = frozenset(
    {
        "message",
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    }
)
_TAG: Final = re.compile(r"(?<=<th)(?=ink>)|(?<=</th)(?=ink>)")
"""Splits a text within the tags that it quotes, so that LiteLLM, which looks at each piece alone, sees none."""
_UNREAD: Final = ("audio", "images", "annotations")
"""Parts of a message that no agent reads; where LiteLLM cannot read one, it drops the text beside it."""
_RESPONSES_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class AnswerFormat(Protocol):
    """Reads the one answer to a request, streamed or whole."""

    @property
    def is_complete(self) -> bool | None:
        """Whether the provider's own mark for the end of a stream has come; None if the format is unknown."""

    def admit(self, event: Json) -> list[Json]:
        """Repair an event of a stream; returns what is to be read in its place, raises `AnswerDamaged`."""

    def repair(self, answer: Json) -> None:
        """Repair a whole answer in place; raises `AnswerDamaged`."""

    def end(self) -> None:
        """Take note of the mark `[DONE]`."""


def format_of(value: Mapping[str, Any]) -> Callable[[CallIds], AnswerFormat] | None:
    """Recognise a format by one event, or by a whole answer; returns None if it is not known."""
    kind = value.get("type")
    if "choices" in value or str(value.get("object")).startswith("chat.completion"):
        return ChatCompletions
    if (isinstance(kind, str) and kind.startswith("response.")) or isinstance(value.get("output"), list):
        return Responses
    if kind in _ANTHROPIC_TYPES:
        return AnthropicMessages
    if "candidates" in value or "usageMetadata" in value or "promptFeedback" in value:
        return GeminiContent
    return OllamaChat if isinstance(value.get("done"), bool) else None


class Unknown:
    """A format without a reader of its own: passed on as it is."""

    is_complete: bool | None = None

    def admit(self, event: Json) -> list[Json]:
        return [event]

    def repair(self, answer: Json) -> None:
        """Change nothing."""

    def end(self) -> None:
        """Take the mark for the end."""
        self.is_complete = True


class ChatCompletions:
    """OpenAI's chat completions, as some thirty providers and servers speak them."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._calls: dict[object, StreamedCalls] = {}
        self._id = f"chatcmpl-{uuid4()}"

    def admit(self, event: Json) -> list[Json]:
        self._repair_head(event)
        event["choices"] = [self._repair_choice(choice) for choice in _dicts(event.get("choices"))]
        return [event]

    def repair(self, answer: Json) -> None:
        self._repair_head(answer)
        for choice in _dicts(answer.get("choices")):
            message = _message_of(choice, "message")
            message["role"] = message.get("role") or "assistant"
            _repair_calls(message, self._ids)

    def end(self) -> None:
        self.is_complete = True

    def _repair_head(self, value: Json) -> None:
        _repair_text(value, "id", self._id)
        _repair_text(value, "model", None)
        value["created"] = _seconds(value.get("created"))
        if not isinstance(value.get("usage"), dict):
            value.pop("usage", None)

    def _repair_choice(self, choice: Json) -> Json:
        index = choice["index"] = choice["index"] if isinstance(choice.get("index"), int) else 0
        delta = _message_of(choice, "delta")
        calls = self._calls.setdefault(index, StreamedCalls(self._ids))
        if pieces := _dicts(delta.pop("tool_calls", None)):
            delta["tool_calls"] = calls.identify(pieces)
        if choice.get("finish_reason"):
            self.is_complete = True
            if calls.has_nameless:
                raise AnswerDamaged("a tool call has no name")
        return choice


class AnthropicMessages:
    """Anthropic's messages."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._inputs: dict[object, object] = {}

    def admit(self, event: Json) -> list[Json]:
        index = event.get("index")
        match event.get("type"):
            case "message_stop":
                self.is_complete = True
            case "message_start" if _dict_in(event, "message") is None:
                return []
            case "message_delta":
                event["delta"] = _dict_in(event, "delta") or {}
            case "content_block_start":
                if (block := _dict_in(event, "content_block")) is None:
                    return []
                self._repair_block(block)
                if block.get("type") == "tool_use" and block.get("input"):
                    self._inputs[index] = block["input"]
            case "content_block_delta":
                if (delta := _dict_in(event, "delta")) is None:
                    return []
                if delta.get("partial_json"):
                    self._inputs.pop(index, None)
            case "content_block_stop" if index in self._inputs:
                # LiteLLM reads arguments from deltas only, but some servers send them with the start of a block.
                delta = {"type": "input_json_delta", "partial_json": json.dumps(self._inputs.pop(index))}
                return [{"type": "content_block_delta", "index": index, "delta": delta}, event]
        return [event]

    def repair(self, answer: Json) -> None:
        for block in _dicts(answer.get("content")):
            self._repair_block(block)

    def end(self) -> None:
        """Ignore the mark: Anthropic has another one."""

    def _repair_block(self, block: Json) -> None:
        if block.get("type") == "tool_use":
            block["id"] = self._ids.claim(block.get("id"))


class GeminiContent:
    """Gemini's `generateContent`. LiteLLM gives its calls indexes, and an id to those that have none."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids

    def admit(self, event: Json) -> list[Json]:
        self.repair(event)
        self.is_complete = self.is_complete or _ends_gemini(event)
        return [event]

    def repair(self, answer: Json) -> None:
        answer["candidates"] = _dicts(answer.get("candidates"))
        for candidate in answer["candidates"]:
            _drop_nulls(candidate)
            if content := _dict_in(candidate, "content"):
                _drop_nulls(content)
                for part in _dicts(content.get("parts")):
                    self._repair_part(part)
        if not isinstance(answer.get("usageMetadata"), dict):
            answer.pop("usageMetadata", None)

    def end(self) -> None:
        """Ignore the mark: Gemini has another one."""

    def _repair_part(self, part: Json) -> None:
        _drop_nulls(part)
        if call := _dict_in(part, "functionCall"):
            _drop_nulls(call)
            call.setdefault("args", {})
            if sent_id := call.pop("id", None):
                call["id"] = self._ids.claim(sent_id)


class OllamaChat:
    """Ollama's own chat endpoint. Each of its calls is whole, and has neither an id nor an index."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._count = 0
        self._has_text = False
        self._thinks = False

    def admit(self, event: Json) -> list[Json]:
        self.repair(event)
        self.is_complete = self.is_complete or event["done"]
        if "message" not in event:
            return [event]
        message = event["message"]
        *pieces, message["content"] = _TAG.split(self._take_thinking(message))
        head = {**event, "done": False}
        return [*({**head, "message": {"content": piece}} for piece in pieces), event]

    def repair(self, answer: Json) -> None:
        answer["done"] = answer.get("done") is True
        _repair_text(answer, "model", "")
        if "response" in answer:  # of the endpoint for plain completions
            return
        message = answer["message"] = _dict_in(answer, "message") or {}
        if not isinstance(message.get("content"), str | None):
            raise AnswerDamaged("its content is no text")
        message["content"] = message.get("content") or ""
        _repair_calls(message, self._ids)
        for call in message.get("tool_calls", ()):
            call["index"] = self._count
            self._count += 1

    def end(self) -> None:
        """Ignore the mark: Ollama has another one."""

    def _take_thinking(self, message: Json) -> str:
        """Move reasoning that a model writes into the answer to where Ollama has it; returns the rest of the content.

        LiteLLM takes a tag of reasoning anywhere in an answer for one, but it is one at the beginning only.
        """
        text: str = message["content"]
        if not self._has_text and text.lstrip().startswith("<think>"):
            self._thinks, text = True, text.lstrip().removeprefix("<think>")
        self._has_text = self._has_text or bool(message["content"].strip())
        if self._thinks:
            thinking, end, text = text.partition("</think>")
            message["thinking"] = f"{message.get('thinking') or ''}{thinking}"
            self._thinks = not end
        return text


class Responses:
    """OpenAI's responses."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._ids_of_items = ids.fork()
        self._id = f"resp_{uuid4()}"

    def admit(self, event: Json) -> list[Json]:
        kind = str(event.get("type"))
        if kind.endswith(".delta") and event.get("delta") is None:
            return []
        self.is_complete = self.is_complete or kind in _RESPONSES_ENDS
        if response := _dict_in(event, "response"):
            self.repair(response)
        if kind == "response.output_item.done" and (item := _dict_in(event, "item")):
            _repair_item(item, self._ids_of_items)
        return [event]

    def repair(self, answer: Json) -> None:
        _repair_text(answer, "id", self._id)
        _repair_text(answer, "model", "")
        answer["created_at"] = _seconds(answer.get("created_at"))
        answer["object"] = "response"
        ids = self._ids.fork()  # each event repeats what came before
        for item in _dicts(answer.get("output")):
            _repair_item(item, ids)

    def end(self) -> None:
        """Ignore the mark: this endpoint has another one."""


def _message_of(choice: Json, name: str) -> Json:
    """Have a choice of a chat completion hold its message, or the delta of one, with its text as a string; returns that.

    A server that does not stream sends the message where the delta should be; one for plain completions sends a text.
    """
    message = choice[name] = _dict_in(choice, name) or _dict_in(choice, "message") or {}
    content = message.get("content")
    if isinstance(content, dict | list):
        parts = [content] if isinstance(content, dict) else content
        message["content"] = "".join(_text_of(part, "text") for part in parts)
        if thinking := "".join(_text_of(part, "thinking") for part in parts):
            message["reasoning_content"] = thinking
    elif content is not None:
        message["content"] = str(content)
    if not message.get("content") and (text := message.get("refusal") or choice.get("text")):
        message["content"] = text
    for name in _UNREAD:
        message.pop(name, None)
    if not isinstance(message.get("provider_specific_fields"), dict):
        message.pop("provider_specific_fields", None)
    if isinstance(function := message.pop("function_call", None), dict) and not message.get("tool_calls"):
        message["tool_calls"] = [{"index": 0, "function": function}]
    return message


def _text_of(part: object, kind: str) -> str:
    """Read a part of a content; Mistral's have the reasoning in parts of their own, which have parts again."""
    if isinstance(part, str):
        return part if kind == "text" else ""
    held = part.get(kind) if isinstance(part, dict) else None
    return "".join(_text_of(inner, "text") for inner in held) if isinstance(held, list) else held if isinstance(held, str) else ""


def _repair_calls(message: Json, ids: CallIds) -> None:
    """Repair the calls of a whole message."""
    calls = _dicts(message.get("tool_calls"))
    if not calls:
        message.pop("tool_calls", None)
        return
    for call in calls:
        function = repair_function(call)
        function["arguments"] = function["arguments"] or "{}"
        call["id"] = ids.claim(call.get("id"))
        call["type"] = "function"  # no other is ever offered
    message["tool_calls"] = calls


def _repair_item(item: Json, ids: CallIds) -> None:
    """Repair an item of the output of OpenAI's responses."""
    if item.get("type") == "function_call":
        item["call_id"] = ids.claim(item.get("call_id") or item.get("id"))
        if not isinstance(item.get("id"), str):
            item.pop("id", None)
        if not isinstance(arguments := item.get("arguments"), str):
            item["arguments"] = "{}" if arguments is None else json.dumps(arguments)


def _repair_text(value: Json, name: str, default: str | None) -> None:
    """Have a field hold text; numbers are written as such."""
    held = value.get(name)
    if not isinstance(held, str):
        value[name] = str(held) if isinstance(held, int | float) else default


def _seconds(value: object) -> int:
    try:
        return int(float(value)) if isinstance(value, int | float | str) else int(time.time())
    except (ValueError, OverflowError):
        return int(time.time())


def _ends_gemini(event: Json) -> bool:
    reasons = [candidate.get("finishReason") for candidate in event["candidates"]]
    feedback = event.get("promptFeedback")
    is_blocked = isinstance(feedback, dict) and bool(feedback.get("blockReason"))
    return is_blocked or any(reason and reason != "FINISH_REASON_UNSPECIFIED" for reason in reasons)


def _drop_nulls(value: Json) -> None:
    for name in [name for name, held in value.items() if held is None]:
        del value[name]


def _dict_in(value: Json, name: str) -> Json | None:
    """Return an object in a field, or None if it is missing or null."""
    held = value.get(name)
    if held is not None and not isinstance(held, dict):
        raise AnswerDamaged(f"its {name} is no JSON object")
    return held


def _dicts(values: object) -> list[Json]:
    """Return the objects of a list that may be missing or have nulls."""
    if values is None:
        return []
    if not isinstance(values, list) or not all(value is None or isinstance(value, dict) for value in values):
        raise AnswerDamaged("it has something else where JSON objects should be")
    return [value for value in values if value is not None]
