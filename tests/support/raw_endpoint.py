"""A plain OpenAI endpoint on a bare socket: it answers with exactly the bytes that a test gives it, and records requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.raw_http import RawRequest, raw_server, url_of

type Json = Any


@dataclass
class RawEndpoint:
    """An endpoint with one list of models and one answer, which tests replace; `received` are the bodies of chat requests."""

    base_url: str = ""
    models: bytes = b""
    answer: bytes = b""
    received: list[dict[str, Json]] = field(default_factory=list)
    authorization: str = ""

    async def respond(self, request: RawRequest, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.authorization = request.headers.get("authorization", "")
        if request.method == "POST":
            self.received.append(request.body)
        writer.write(self.answer if request.method == "POST" else self.models)
        await writer.drain()


@asynccontextmanager
async def raw_endpoint(models: bytes) -> AsyncIterator[RawEndpoint]:
    endpoint = RawEndpoint(models=models)
    async with raw_server(endpoint.respond) as server:
        endpoint.base_url = f"{url_of(server)}/v1"
        yield endpoint


def response(body: bytes, status: str = "200 OK", *, headers: str = "", kind: str = "application/json") -> bytes:
    """Make a whole response that ends where the connection ends."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n{headers}\r\n".encode() + body


def json_response(value: Json, status: str = "200 OK", *, headers: str = "") -> bytes:
    return response(json.dumps(value).encode(), status, headers=headers)


def stream(*chunks: Json, done: bool = True, headers: str = "") -> bytes:
    """Make a streamed answer; chunks that are bytes are sent as they are."""
    events = (chunk if isinstance(chunk, bytes) else f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks)
    return response(b"".join(events) + (b"data: [DONE]\n\n" if done else b""), headers=headers, kind="text/event-stream")


def delta_chunk(content: str | None = None, finish_reason: str | None = None, **delta: Json) -> dict[str, Json]:
    return {"choices": [{"delta": {"content": content, **delta}, "finish_reason": finish_reason}]}


def usage_chunk(prompt: int, completion: int, **more: Json) -> dict[str, Json]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


def answer_stream(text: str, **usage: Json) -> bytes:
    """Make an ordinary answer of 1000 tokens of prompt and 500 of output, unless `usage` has other numbers."""
    return stream(
        delta_chunk(text), delta_chunk(finish_reason="stop"), usage_chunk(**{"prompt": 1000, "completion": 500, **usage})
    )
