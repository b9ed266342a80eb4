"""The wire form of a scripted answer: OpenAI chat completions, whole or in pieces. Pure; knows nothing of sockets or time."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, assert_never

from a2a_gateway.testing.script import ChatRequest, ScriptedCall, Step, Usage

# A word with the space after it, as tokenisers of LLMs roughly do.
_WORDS: Final = re.compile(r"\S+\s*|\s+")
_ARGUMENT_PIECE_CHARS: Final = 12
# A constant instead of a clock, because nothing reads it.
_CREATED: Final = 1_700_000_000
DONE: Final = b"data: [DONE]\n\n"


def render_error(step: Step) -> bytes:
    """Render a refusal in OpenAI's error form."""
    return _json({"error": {"message": step.error, "type": "scripted_error", "param": None, "code": step.code}})


def render_completion(request: ChatRequest, step: Step) -> bytes:
    """Render the whole answer as one object."""
    message: dict[str, Any] = {"role": "assistant", "content": step.text}
    if step.reasoning:
        message["reasoning_content"] = step.reasoning
    if step.calls:
        message["tool_calls"] = [_call(request, index, call) for index, call in enumerate(step.calls)]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(step), "logprobs": None}
    usage = render_usage(request, step)
    return _json({**_envelope(request, "chat.completion"), "choices": [choice]} | ({"usage": usage} if usage else {}))


def render_frames(request: ChatRequest, step: Step) -> list[bytes]:
    """Render the answer as SSE frames, one for each delta: reasoning, text and tool arguments in pieces."""
    envelope = _json(_envelope(request, "chat.completion.chunk"))[:-1] + b',"choices":[{"index":0,"delta":'
    return [b"data: " + envelope + _json(delta) + b',"finish_reason":null}]}\n\n' for delta in _deltas(request, step)]


def render_end(request: ChatRequest, step: Step) -> bytes:
    """Render the end of a stream after the last delta: the finish reason, the usage if requested, and the end mark."""
    envelope = _envelope(request, "chat.completion.chunk")
    frames = [{**envelope, "choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason(step)}]}]
    usage = render_usage(request, step)
    if request.include_usage and usage:
        frames.append({**envelope, "choices": [], "usage": usage})
    return b"".join(b"data: " + _json(frame) + b"\n\n" for frame in frames) + DONE


def render_usage(request: ChatRequest, step: Step) -> dict[str, Any] | None:
    """Render the usage that the step reports; None if it does not report usage."""
    match step.usage:
        case Usage() as usage:
            pass
        case "estimated":
            usage = Usage(request.size_bytes // 4, max(1, sum(1 for _ in _deltas(request, step)) - 1))
        case "omitted":
            return None
        case never:
            assert_never(never)
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finish_reason(step: Step) -> str:
    """Return the finish reason: the step's own, else the one that follows from its content."""
    natural: Literal["tool_calls", "stop"] = "tool_calls" if step.calls else "stop"
    return step.finish_reason or natural


def words(text: str) -> Sequence[str]:
    """Split a text into the pieces in which it is streamed; joined, they are the text."""
    return _WORDS.findall(text)


def _deltas(request: ChatRequest, step: Step) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for piece in words(step.reasoning):
        yield {"reasoning_content": piece}
    for piece in words(step.text or ""):
        yield {"content": piece}
    for index, call in enumerate(step.calls):
        whole = _call(request, index, call)
        arguments = whole["function"]["arguments"]
        yield {"tool_calls": [{**whole, "index": index, "function": {"name": call.name, "arguments": ""}}]}
        for start in range(0, len(arguments), _ARGUMENT_PIECE_CHARS):
            piece = arguments[start : start + _ARGUMENT_PIECE_CHARS]
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _call(request: ChatRequest, index: int, call: ScriptedCall) -> dict[str, Any]:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    return {
        "id": f"call_{request.number}_{index}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _envelope(request: ChatRequest, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{request.number}", "object": kind, "created": _CREATED, "model": request.model}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
