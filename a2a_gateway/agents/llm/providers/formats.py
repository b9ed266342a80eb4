"""Recognise the formats in which providers answer, repair what a server leaves out, and find where an answer ends. Pure.

LiteLLM fails at values that servers send beside or instead of those of the specification (`choices: null`, numeric ids), drops
tool calls without an id, merges calls with the same index, and reports a truncated stream as finished. Each class here parses
the answers of one format before LiteLLM does.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol
from uuid import uuid4

from a2a_gateway.agents.llm.providers.call_ids import CallIds
from a2a_gateway.agents.llm.providers.chat_formats import ChatCompletions, OllamaChat
from a2a_gateway.agents.llm.providers.json_repair import Json, dict_in, dicts, drop_nulls, repair_text, seconds
from a2a_gateway.agents.llm.providers.stream_events import AnswerDamaged

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
_RESPONSES_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ProviderFormat(Protocol):
    """Reads the one answer to a request, streamed or whole."""

    @property
    def is_complete(self) -> bool | None:
        """Whether the provider's own mark for the end of a stream has come; None if the format is unknown."""

    def admit(self, event: Json) -> list[Json]:
        """Repair an event of a stream, and return the events that replace it; raises `AnswerDamaged`."""

    def repair(self, answer: Json) -> None:
        """Repair a whole answer in place; raises `AnswerDamaged`."""

    def end(self) -> None:
        """Record that the mark `[DONE]` has come."""


def format_of(value: Mapping[str, Any]) -> Callable[[CallIds], ProviderFormat] | None:
    """Return the class for a format, recognised by one event or by a whole answer; None if the format is unknown."""
    kind = value.get("type")
    if "choices" in value or str(value.get("object")).startswith("chat.completion"):
        return ChatCompletions
    if (isinstance(kind, str) and kind.startswith("response.")) or isinstance(value.get("output"), list):
        return OpenAIResponses
    if kind in _ANTHROPIC_TYPES:
        return AnthropicMessages
    if "candidates" in value or "usageMetadata" in value or "promptFeedback" in value:
        return GeminiContent
    return OllamaChat if "done" in value or {"message", "model"} <= value.keys() else None


class Unknown:
    """A format without a class of its own; its answers are passed on unchanged."""

    is_complete: bool | None = None

    def admit(self, event: Json) -> list[Json]:
        return [event]

    def repair(self, answer: Json) -> None:
        """Change nothing."""

    def end(self) -> None:
        """Treat the mark as the end."""
        self.is_complete = True


class AnthropicMessages:
    """Anthropic's messages."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._inputs: dict[object, object] = {}

    def admit(self, event: Json) -> list[Json]:
        drop_nulls(event)
        index = event.get("index")
        match event.get("type"):
            case None:
                raise AnswerDamaged(f"an event has no type, only {', '.join(event)}")
            case "message":  # a server that does not stream
                return [admitted for part in _events_of_message(event) for admitted in self.admit(part)]
            case "message_stop":
                self.is_complete = True
            case "message_start":
                if (message := dict_in(event, "message")) is None:
                    return []
                drop_nulls(message)
            case "message_delta":
                event["delta"] = dict_in(event, "delta") or {}
            case "content_block_start":
                if (block := dict_in(event, "content_block")) is None:
                    return []
                self._repair_block(block)
                if block.get("type") == "tool_use" and block.get("input"):
                    self._inputs[index] = block["input"]
            case "content_block_delta":
                if (delta := dict_in(event, "delta")) is None:
                    return []
                if delta.get("partial_json"):
                    self._inputs.pop(index, None)
            case "content_block_stop" if index in self._inputs:
                # LiteLLM reads arguments from deltas only, but some servers send them with the start of a block.
                delta = {"type": "input_json_delta", "partial_json": json.dumps(self._inputs.pop(index))}
                return [{"type": "content_block_delta", "index": index, "delta": delta}, event]
        return [event]

    def repair(self, answer: Json) -> None:
        repair_text(answer, "model", "")
        answer["usage"] = dict_in(answer, "usage") or {}
        answer.setdefault("stop_reason", None)
        answer["content"] = dicts(answer.get("content"))
        for block in answer["content"]:
            self._repair_block(block)

    def end(self) -> None:
        """Ignore the mark: Anthropic's streams end with another one."""

    def _repair_block(self, block: Json) -> None:
        drop_nulls(block)
        match block.get("type"):
            case None:
                raise AnswerDamaged("a block of content has no type")
            case "tool_use":
                block["id"] = self._ids.make_unique(block.get("id"))
            case "text":
                block.setdefault("text", "")


class GeminiContent:
    """Gemini's `generateContent`. LiteLLM adds the indexes of its calls, and missing ids."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids

    def admit(self, event: Json) -> list[Json]:
        self._repair_candidates(event)
        self.is_complete = self.is_complete or _ends_gemini(event)
        return [event]

    def repair(self, answer: Json) -> None:
        self._repair_candidates(answer)
        answer.setdefault("usageMetadata", {})

    def end(self) -> None:
        """Ignore the mark: Gemini's streams end with another one."""

    def _repair_candidates(self, answer: Json) -> None:
        answer["candidates"] = dicts(answer.get("candidates"))
        for candidate in answer["candidates"]:
            drop_nulls(candidate)
            if content := dict_in(candidate, "content"):
                content["parts"] = dicts(content.get("parts"))
                for part in content["parts"]:
                    self._repair_part(part)
        if usage := dict_in(answer, "usageMetadata"):
            drop_nulls(usage)
        else:
            answer.pop("usageMetadata", None)

    def _repair_part(self, part: Json) -> None:
        drop_nulls(part)
        if call := dict_in(part, "functionCall"):
            drop_nulls(call)
            call.setdefault("args", {})
            if sent_id := call.pop("id", None):
                call["id"] = self._ids.make_unique(sent_id)


class OpenAIResponses:
    """OpenAI's responses."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._ids_of_items = ids.fork()
        self._id = f"resp_{uuid4()}"

    def admit(self, event: Json) -> list[Json]:
        if isinstance(event.get("output"), list):  # a server that does not stream
            event = {"type": "response.completed", "sequence_number": 0, "response": event}
        kind = event.get("type")
        if not isinstance(kind, str):
            raise AnswerDamaged(f"an event has no type, only {', '.join(event)}")
        if kind.endswith(".delta") and event.get("delta") is None:
            return []
        self.is_complete = self.is_complete or kind in _RESPONSES_ENDS
        if response := dict_in(event, "response"):
            self.repair(response)
        if kind == "response.output_item.done" and (item := dict_in(event, "item")):
            _repair_item(item, self._ids_of_items)
        return [event]

    def repair(self, answer: Json) -> None:
        repair_text(answer, "id", self._id)
        repair_text(answer, "model", "")
        answer["created_at"] = seconds(answer.get("created_at"))
        answer["object"] = "response"
        ids = self._ids.fork()  # each event repeats the earlier output
        for item in dicts(answer.get("output")):
            _repair_item(item, ids)

    def end(self) -> None:
        """Ignore the mark: this endpoint's streams end with another one."""


def _events_of_message(message: Json) -> Iterator[Json]:
    """Split a whole message of Anthropic's into the events in which it would have been streamed."""
    yield {"type": "message_start", "message": {**message, "content": []}}
    for index, block in enumerate(dicts(message.get("content"))):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    stop = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    yield {"type": "message_delta", "delta": stop, "usage": message.get("usage")}
    yield {"type": "message_stop"}


def _repair_item(item: Json, ids: CallIds) -> None:
    """Repair an item of the output of OpenAI's responses."""
    if item.get("type") == "function_call":
        item["call_id"] = ids.make_unique(item.get("call_id") or item.get("id"))
        if not isinstance(item.get("id"), str):
            item.pop("id", None)
        if not isinstance(arguments := item.get("arguments"), str):
            item["arguments"] = "{}" if arguments is None else json.dumps(arguments)


def _ends_gemini(event: Json) -> bool:
    reasons = [candidate.get("finishReason") for candidate in event["candidates"]]
    feedback = event.get("promptFeedback")
    is_blocked = isinstance(feedback, dict) and bool(feedback.get("blockReason"))
    return is_blocked or any(reason and reason != "FINISH_REASON_UNSPECIFIED" for reason in reasons)
