"""An LLM that knows OpenAI's Responses endpoint only."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from a2a_gateway.testing.serving import serve_app

_USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 400},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 1100,
}


@dataclass
class ResponsesServer:
    """Streams the same events to every request, and keeps the requests' bodies; with `hangs` it then waits for ever."""

    events: list[dict[str, Any]]
    hangs: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        if not self.bodies[-1].get("stream"):
            return JSONResponse(self.events[-1]["response"])
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        for number, event in enumerate(self.events):
            yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
        if self.hangs:
            await asyncio.Event().wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve it; yields the base URL."""
        async with serve_app(Starlette(routes=[Route("/v1/responses", self.answer, methods=["POST"])])) as url:
            yield f"{url}/v1"


def function_call_events(name: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """A little reasoning, then a call of a function, whose arguments come in two pieces."""
    text = json.dumps(arguments)
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": "", "status": "in_progress"}
    done = {**call, "arguments": text, "status": "completed"}
    thought = {"item_id": "rs_1", "output_index": 0, "summary_index": 0, "delta": "Hm."}
    delta = {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 1}
    return [
        {"type": "response.created", "response": _response([], status="in_progress", usage=None)},
        {"type": "response.reasoning_summary_text.delta", **thought},
        {"type": "response.output_item.added", "output_index": 1, "item": call},
        {**delta, "delta": text[:16]},
        {**delta, "delta": text[16:]},
        {"type": "response.output_item.done", "output_index": 1, "item": done},
        {"type": "response.completed", "response": _response([done])},
    ]


def _response(output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    fields = {"id": "resp_1", "object": "response", "created_at": 0, "model": "gpt-5", "output": output, "status": "completed"}
    return {**fields, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": _USAGE, **more}
