"""A server of Anthropic's format that refuses what Anthropic refuses, in its words, and keeps what it was sent."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from a2a_gateway.testing.serving import serve_app


@dataclass
class AnthropicServer:
    """Answers each request with the same text, after it has been overloaded for so many."""

    text: str = "ok"
    overloaded: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if (refusal := _refusal(body)) is not None:
            return JSONResponse({"type": "error", "error": {"type": "invalid_request_error", "message": refusal}}, 400)
        if self.overloaded:
            self.overloaded -= 1
            return JSONResponse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
        usage = {"input_tokens": 1000, "output_tokens": 100}
        content = [{"type": "text", "text": self.text}]
        if not body.get("stream"):
            return JSONResponse({**message, "content": content, "stop_reason": "end_turn", "usage": usage})
        events = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in self._events(message, usage))
        return Response(events, media_type="text/event-stream")

    def _events(self, message: dict[str, Any], usage: dict[str, int]) -> Iterator[dict[str, Any]]:
        yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": self.text}}
        yield {"type": "content_block_stop", "index": 0}
        yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}
        yield {"type": "message_stop"}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve it; yields the base URL."""
        async with serve_app(Starlette(routes=[Route("/v1/messages", self.answer, methods=["POST"])])) as url:
            yield url


def _refusal(body: dict[str, Any]) -> str | None:
    thinking, max_tokens = body.get("thinking") or {}, body["max_tokens"]
    budget = thinking.get("budget_tokens", 0)
    if thinking.get("type") == "enabled" and budget < 1024:
        return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    if budget >= max_tokens:
        return "`max_tokens` must be greater than `thinking.budget_tokens`."
    if max_tokens > 64_000:
        return f"max_tokens: {max_tokens} > 64000, which is the maximum allowed number of output tokens"
    if body.get("temperature", 1) > 1:
        return "temperature: range: 0..1"
    if thinking and body.get("temperature", 1) != 1:
        return "`temperature` may only be set to 1 when thinking is enabled."
    if any(not stop.strip() for stop in body.get("stop_sequences", ())):
        return "stop_sequences: each stop sequence must contain non-whitespace"
    return None
