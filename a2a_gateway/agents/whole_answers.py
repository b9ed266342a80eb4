"""Answers that servers give otherwise than they were asked: whole where a stream was asked for, and errors with status 200.

Pure: bodies in, bodies out. Some servers, and proxies in front of them, cannot stream: they answer a request for a stream with
plain JSON, in which LiteLLM finds no event. Others report an error with status 200, which LiteLLM takes for a broken answer.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

_ANSWERS: Final = ("choices", "output", "content", "candidates", "message")
"""Fields of answers, in all formats; an object with one of them is no error."""
_STATUSES: Final = range(400, 600)
_BAD_GATEWAY: Final = 502


def error_status(body: bytes) -> int | None:
    """Find the status that an answer with status 200 should have had; None if it is no error."""
    if b'"error"' not in body:
        return None
    answer = _object(body)
    error = answer.get("error")
    if not error or any(answer.get(name) for name in _ANSWERS):
        return None
    codes = (error.get("code"), error.get("status")) if isinstance(error, Mapping) else ()
    return next((code for code in codes if isinstance(code, int) and code in _STATUSES), _BAD_GATEWAY)


def as_events(body: bytes) -> bytes | None:
    """Write a whole chat completion, or a whole response, as the events of a stream; None if it is neither."""
    answer = _object(body)
    if answer.get("object") == "response" and isinstance(answer.get("output"), list):
        return _events([{"type": "response.completed", "sequence_number": 0, "response": answer}], end="")
    choices = answer.get("choices")
    if (
        not choices
        or not isinstance(choices, list)
        or not all(isinstance(choice, dict) and _message(choice) for choice in choices)
    ):
        return None
    head = {**answer, "object": "chat.completion.chunk", "choices": []}
    usage = head.pop("usage", None)
    chunks = [
        {**head, "choices": [_said(choice) for choice in choices]},
        {**head, "choices": [_end(choice) for choice in choices]},
    ]
    return _events([*chunks, {**head, "usage": usage}] if usage else chunks, end="data: [DONE]\n\n")


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _message(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, dict) else {}


def _said(choice: Mapping[str, Any]) -> dict[str, Any]:
    delta = _message(choice)
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta = {**delta, "tool_calls": [{**call, "index": index} for index, call in enumerate(calls) if isinstance(call, dict)]}
    return {"index": choice.get("index", 0), "delta": delta, "finish_reason": None}


def _end(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": choice.get("index", 0), "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}


def _events(items: Iterable[Mapping[str, Any]], *, end: str) -> bytes:
    return ("".join(f"data: {json.dumps(item)}\n\n" for item in items) + end).encode()
