"""Repair answers that consist of a chat message: OpenAI's chat completions and Ollama's chat. Pure; see `formats`."""

import re
from typing import Final
from uuid import uuid4

from a2a_gateway.agents.llm.providers.call_ids import CallIds, StreamedCalls, repair_function
from a2a_gateway.agents.llm.providers.json_repair import Json, dict_in, dicts, drop_nulls, repair_text, seconds
from a2a_gateway.agents.llm.providers.stream_events import AnswerDamaged

_TAG: Final = re.compile(r"(?<=<th)(?=ink>)|(?<=</th)(?=ink>)")
"""Splits a text inside the tags that it quotes. LiteLLM searches each piece alone, so it finds no tag."""
_UNREAD: Final = ("audio", "images", "annotations")
"""Parts of a message that no agent uses. If LiteLLM cannot parse one, it drops the text beside it."""


class ChatCompletions:
    """OpenAI's chat completions, the format of some thirty providers and servers."""

    def __init__(self, ids: CallIds) -> None:
        self.is_complete: bool | None = False
        self._ids = ids
        self._calls: dict[object, StreamedCalls] = {}
        self._id = f"chatcmpl-{uuid4()}"

    def admit(self, event: Json) -> list[Json]:
        self._repair_head(event)
        event["choices"] = [self._repair_choice(choice) for choice in dicts(event.get("choices"))]
        return [event]

    def repair(self, answer: Json) -> None:
        self._repair_head(answer)
        for choice in dicts(answer.get("choices")):
            message = _message_of(choice, "message")
            message["role"] = message.get("role") or "assistant"
            _repair_calls(message, self._ids)

    def end(self) -> None:
        self.is_complete = True

    def _repair_head(self, value: Json) -> None:
        repair_text(value, "id", self._id)
        repair_text(value, "model", None)
        value["created"] = seconds(value.get("created"))
        if not isinstance(value.get("usage"), dict):
            value.pop("usage", None)

    def _repair_choice(self, choice: Json) -> Json:
        index = choice["index"] = choice["index"] if isinstance(choice.get("index"), int) else 0
        delta = _message_of(choice, "delta")
        calls = self._calls.setdefault(index, StreamedCalls(self._ids))
        if pieces := dicts(delta.pop("tool_calls", None)):
            delta["tool_calls"] = calls.identify(pieces)
        if choice.get("finish_reason"):
            self.is_complete = True
            if calls.has_nameless:
                raise AnswerDamaged("a tool call has no name")
        return choice


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
        drop_nulls(answer)
        answer["done"] = answer.get("done") is True
        repair_text(answer, "model", "")
        if "response" in answer:  # of the endpoint for plain completions
            return
        message = answer["message"] = dict_in(answer, "message") or {}
        if not isinstance(message.get("content"), str | None):
            raise AnswerDamaged("its content is not text")
        message["content"] = message.get("content") or ""
        _repair_calls(message, self._ids)
        for call in message.get("tool_calls", ()):
            call["index"] = self._count
            self._count += 1

    def end(self) -> None:
        """Ignore the mark: Ollama's streams end with another one."""

    def _take_thinking(self, message: Json) -> str:
        """Move reasoning at the beginning of the content to the field for it; return the rest of the content.

        LiteLLM treats a reasoning tag anywhere in an answer as one, but it is one only at the beginning.
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


def _message_of(choice: Json, name: str) -> Json:
    """Return the message, or the delta, of a choice, which is added if it is missing; make its content a string.

    A server that does not stream sends the message in place of the delta. A server for plain completions sends a text.
    """
    message = choice[name] = dict_in(choice, name) or dict_in(choice, "message") or {}
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
    """Return the text of a part of a content. Mistral's reasoning is a part of its own, which consists of parts again."""
    if isinstance(part, str):
        return part if kind == "text" else ""
    held = part.get(kind) if isinstance(part, dict) else None
    return "".join(_text_of(inner, "text") for inner in held) if isinstance(held, list) else held if isinstance(held, str) else ""


def _repair_calls(message: Json, ids: CallIds) -> None:
    """Repair the calls of a whole message."""
    calls = dicts(message.get("tool_calls"))
    if not calls:
        message.pop("tool_calls", None)
        return
    for call in calls:
        function = repair_function(call)
        function["arguments"] = function["arguments"] or "{}"
        call["id"] = ids.make_unique(call.get("id"))
        call["type"] = "function"  # no other is ever offered
    message["tool_calls"] = calls
