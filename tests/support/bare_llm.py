"""An LLM on a bare socket: it counts the requests that it gets, and answers each with exactly the bytes that a test names."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.raw_http import RawRequest, raw_server, url_of

type Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Bytes after which the connection is closed, or a function that reads and writes by itself."""
type Choose = Callable[[Mapping[str, Any]], Answer]
"""Chooses the answer to a request, by its body."""


@dataclass
class BareLLM:
    """A server on a port of this machine.

    Attributes:
        requests: bodies of the requests received, in order.
    """

    choose: Choose
    base_url: str = ""
    requests: list[Mapping[str, Any]] = field(default_factory=list)

    async def answer(self, request: RawRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request.body)
        answer = self.choose(request.body)
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(reader, writer)


@asynccontextmanager
async def bare_llm(choose: Choose) -> AsyncIterator[BareLLM]:
    """Serve the answers that `choose` names."""
    llm = BareLLM(choose)
    async with raw_server(llm.answer) as server:
        llm.base_url = f"{url_of(server)}/v1"
        yield llm


def http(status: int, body: str | bytes, content_type: str = "application/json", **headers: str) -> bytes:
    """Write an HTTP answer."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"content-type": content_type, "content-length": str(len(content)), "connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode() + content


def refusal(status: int, message: str, **error: object) -> bytes:
    """Write an error in OpenAI's form."""
    return http(status, json.dumps({"error": {"message": message, **error}}))


def chat_stream(delta: Mapping[str, object], finish_reason: str = "stop", usage: Mapping[str, object] | None = None) -> str:
    """Write the events of a chat completion: one delta, the reason of its end, the usage, the mark."""
    head = {"id": "chunk-1", "object": "chat.completion.chunk", "created": 1, "model": "a/b"}
    said = {**head, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]}
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]}
    if usage is not None:
        last["usage"] = usage
    return "".join(f"data: {json.dumps(one)}\n\n" for one in (said, last)) + "data: [DONE]\n\n"


def chat_answer(content: str, usage: Mapping[str, object] | None = None) -> str:
    """Write a whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    reply = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "a/b", "choices": [choice]}
    return json.dumps(reply if usage is None else {**reply, "usage": usage})


def call(name: str, **arguments: object) -> dict[str, object]:
    """Write a tool call of a delta."""
    return {"index": 0, "id": "call-1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection before anything is answered."""
    connection: Any = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Answer nothing until the client has had enough."""
    await reader.read()
