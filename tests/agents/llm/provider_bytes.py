"""Answers in the formats of all families of providers, as bytes."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from tests.agents.driver import an_llm
from tests.support.raw_llm import RawReply, document_reply, stream_reply

type Json = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One family of providers.

    Attributes:
        texts: an answer's events before its end, one for each of some texts.
        calls: the same for tool calls, which are whole.
        end: its last events.
        whole: an answer that is not streamed, with a text and tool calls.
    """

    name: str
    model: str
    texts: Callable[[Sequence[str]], list[Json]]
    calls: Callable[[Sequence["Call"]], list[Json]]
    end: Callable[[str], list[Json]]
    whole: Callable[[str, Sequence["Call"]], Json]
    path: str = ""
    is_lines: bool = False
    has_event_names: bool = False
    mark: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def llm(self, url: str, **more: Any) -> ConfiguredLLM:
        return an_llm(f"{url}{self.path}", model=self.model, **{**self.fields, **more})

    def line(self, event: Json, *, ascii_only: bool = False) -> str:
        """One event as it is sent: without escapes that JSON does not ask for."""
        text = json.dumps(event, ensure_ascii=ascii_only)
        if self.is_lines:
            return f"{text}\n"
        return f"event: {event['type']}\ndata: {text}\n\n" if self.has_event_names else f"data: {text}\n\n"

    def saying(self, *texts: str, is_cut: bool = False) -> list[str]:
        """A stream that says these texts, each in an event of its own."""
        end = [] if is_cut else [*map(self.line, self.end("stop")), *filter(None, [self.mark])]
        return [*map(self.line, self.texts(texts)), *end]

    def calling(self, *calls: "Call") -> list[str]:
        """A stream that makes these calls."""
        return [*map(self.line, self.calls(calls)), *map(self.line, self.end("tool_calls")), *filter(None, [self.mark])]

    def stream(self, *lines: str | bytes, **more: Any) -> RawReply:
        return stream_reply(*lines, content_type="application/x-ndjson" if self.is_lines else "text/event-stream", **more)

    def document(self, text: str, *calls: "Call") -> RawReply:
        return document_reply(self.whole(text, calls))


@dataclass(frozen=True)
class Call:
    """A tool call; `more` is what stands beside its function."""

    name: str
    arguments: Json
    more: Json = field(default_factory=dict)


CHAT_HEAD: Json = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE: Json = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def chat_chunk(delta: Any, reason: Any = None, **more: Any) -> Json:
    return {**CHAT_HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def chat_call(call: Call, **more: Any) -> Json:
    return {"type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}, **call.more, **more}


def _chat_calls(calls: Sequence[Call]) -> list[Json]:
    return [chat_chunk({"tool_calls": [chat_call(call)]}) for call in calls]


def _chat_whole(text: str, calls: Sequence[Call]) -> Json:
    message = {"role": "assistant", "content": text, **({"tool_calls": [*map(chat_call, calls)]} if calls else {})}
    reason = "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {**CHAT_HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def _chat(name: str, model: str, path: str = "/v1", **fields: Any) -> Family:
    return Family(
        name,
        model,
        texts=lambda texts: [chat_chunk({"content": text}) for text in texts],
        calls=_chat_calls,
        end=lambda reason: [chat_chunk({}, reason), {**CHAT_HEAD, "choices": [], "usage": USAGE}],
        whole=_chat_whole,
        path=path,
        mark="data: [DONE]\n\n",
        fields=fields,
    )


def _anthropic_start() -> Json:
    usage = {"input_tokens": 1000, "output_tokens": 1}
    return {
        "type": "message_start",
        "message": {"id": "m", "role": "assistant", "model": "claude", "content": [], "usage": usage},
    }


def _anthropic_texts(texts: Sequence[str]) -> list[Json]:
    delta = {"type": "content_block_delta", "index": 0}
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return [_anthropic_start(), start, *({**delta, "delta": {"type": "text_delta", "text": text}} for text in texts)]


def _anthropic_calls(calls: Sequence[Call]) -> list[Json]:
    events = [_anthropic_start()]
    for index, call in enumerate(calls):
        block = {"type": "tool_use", "name": call.name, "input": {}, **call.more}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call.arguments)}
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    return events


def _anthropic_end(reason: str) -> list[Json]:
    stop = {"stop_reason": "tool_use" if reason == "tool_calls" else "end_turn", "stop_sequence": None}
    return [{"type": "message_delta", "delta": stop, "usage": {"output_tokens": 100}}, {"type": "message_stop"}]


def _anthropic_whole(text: str, calls: Sequence[Call]) -> Json:
    blocks = [{"type": "tool_use", "name": call.name, "input": call.arguments, **call.more} for call in calls]
    return {
        **_anthropic_start()["message"],
        "type": "message",
        "content": [*([{"type": "text", "text": text}] if text else []), *blocks],
        "stop_reason": "tool_use" if calls else "end_turn",
        "usage": {"input_tokens": 1000, "output_tokens": 100},
    }


def _gemini(parts: list[Json], **more: Any) -> Json:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r"}


def _gemini_call(call: Call) -> Json:
    return {"functionCall": {"name": call.name, "args": call.arguments, **call.more}}


_GEMINI_USAGE = {"usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100}}


def ollama_line(message: Any, **more: Any) -> Json:
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False, **more}


def _ollama_calls(calls: Sequence[Call]) -> list[Json]:
    return [ollama_line({"role": "assistant", "content": "", "tool_calls": [_ollama_call(call)]}) for call in calls]


def _ollama_call(call: Call) -> Json:
    return {"function": {"name": call.name, "arguments": call.arguments}, **call.more}


def _ollama_end(text: str = "", **more: Any) -> Json:
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 1000, "eval_count": 100}
    return ollama_line({"role": "assistant", "content": text, **more}, **counts)


_RESPONSES_USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}


def _response(output: list[Json], **more: Any) -> Json:
    fields = {"id": "resp_1", "object": "response", "created_at": 0, "model": "gpt-5", "output": output, "status": "completed"}
    return {**fields, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": _RESPONSES_USAGE, **more}


def _responses_call(call: Call) -> Json:
    return {
        "type": "function_call",
        "name": call.name,
        "arguments": json.dumps(call.arguments),
        "status": "completed",
        **call.more,
    }


def _responses_message(text: str) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def _responses_texts(texts: Sequence[str]) -> list[Json]:
    delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"type": "response.output_item.done", "output_index": 0, "item": _responses_message("".join(texts))}
    return [*({**delta, "delta": text} for text in texts), item]


def _responses_calls(calls: Sequence[Call]) -> list[Json]:
    return [
        {"type": "response.output_item.done", "output_index": index, "item": _responses_call(call)}
        for index, call in enumerate(calls)
    ]


def _responses_whole(text: str, calls: Sequence[Call]) -> Json:
    return _response([*([_responses_message(text)] if text else []), *map(_responses_call, calls)])


def bedrock_frame(kind: str, payload: Json) -> bytes:
    """One event of Bedrock's binary streams."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event"))
    )
    body = json.dumps(payload, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + body
    return frame + struct.pack(">I", zlib.crc32(frame))


OPENAI = _chat("openai", "openai/m")
OPENROUTER = _chat("openrouter", "openrouter/m")
AZURE = _chat("azure", "azure/m", path="", api_version="2024-10-21")
ANTHROPIC = Family(
    "anthropic",
    "anthropic/claude-sonnet-4-5",
    _anthropic_texts,
    _anthropic_calls,
    _anthropic_end,
    _anthropic_whole,
    has_event_names=True,
)
GEMINI = Family(
    "gemini",
    "gemini/gemini-2.5-flash",
    texts=lambda texts: [_gemini([{"text": text}]) for text in texts],
    calls=lambda calls: [_gemini([_gemini_call(call)]) for call in calls],
    end=lambda _: [{**_gemini([{"text": ""}], finishReason="STOP"), **_GEMINI_USAGE}],
    whole=lambda text, calls: {
        **_gemini([*([{"text": text}] if text else []), *map(_gemini_call, calls)], finishReason="STOP"),
        **_GEMINI_USAGE,
    },
)
OLLAMA = Family(
    "ollama",
    "ollama_chat/m",
    texts=lambda texts: [ollama_line({"role": "assistant", "content": text}) for text in texts],
    calls=_ollama_calls,
    end=lambda _: [_ollama_end()],
    whole=lambda text, calls: _ollama_end(text, **({"tool_calls": [*map(_ollama_call, calls)]} if calls else {})),
    is_lines=True,
)
RESPONSES = Family(
    "responses",
    "openai/gpt-5",
    _responses_texts,
    _responses_calls,
    # The SDK takes the items that were sent one by one where the last event has none.
    end=lambda _: [{"type": "response.completed", "response": _response([])}],
    whole=_responses_whole,
    path="/v1",
    has_event_names=True,
)
FAMILIES = (OPENAI, OPENROUTER, AZURE, ANTHROPIC, GEMINI, OLLAMA, RESPONSES)
