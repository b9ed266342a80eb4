"""A peer that misbehaves: a bare socket that answers each model with a fault of its own. Models are named after the faults."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.raw_http import RawRequest, raw_server, url_of

type Fault = Callable[[asyncio.StreamWriter], Awaitable[None]]

_SSE = "content-type: text/event-stream\r\n"


@dataclass
class RoguePeer:
    """A rogue on a port of this machine; `received` counts the chat requests by model, `tree` is its answer about any run."""

    base_url: str
    received: Counter[str] = field(default_factory=Counter)
    headers: dict[str, str] = field(default_factory=dict)
    tree: str = "{}"
    server: asyncio.Server | None = None

    async def answer(self, request: RawRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        route = f"{request.method} {request.path}"
        if route == "GET /v1/models":
            await respond(writer, json.dumps({"object": "list", "data": [{"id": f"openhands_{name}"} for name in FAULTS]}))
        elif route.startswith("GET /v1/runs/far-run/tree"):
            await respond(writer, self.tree)
        elif route == "POST /v1/chat/completions":
            fault = request.body["model"].removeprefix("openhands_")
            self.received[fault] += 1
            self.headers = dict(request.headers)
            if fault == "dies" and self.server is not None:
                self.server.close()
            await FAULTS[fault](writer)
            if fault == "silent":
                await reader.read()  # until the client closes the connection
        else:
            await respond(writer, "{}", status="404 Not Found")


@asynccontextmanager
async def rogue_peer() -> AsyncIterator[RoguePeer]:
    peer = RoguePeer("")
    async with raw_server(peer.answer) as server:
        peer.base_url, peer.server = f"{url_of(server)}/v1", server
        yield peer


async def respond(
    writer: asyncio.StreamWriter, body: str, *, status: str = "200 OK", headers: str = "content-type: application/json\r\n"
) -> None:
    """Send a whole response that ends where the connection ends."""
    writer.write(f"HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n{body}".encode())
    await writer.drain()


def chunk(content: str | None = None, finish_reason: str | None = None, usage: Mapping[str, Any] | None = None) -> str:
    choices = [] if usage else [{"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish_reason}]
    made = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return f"data: {json.dumps(made)}\n\n"


def answers(text: str, headers: str = _SSE, status: str = "200 OK") -> Fault:
    async def fault(writer: asyncio.StreamWriter) -> None:
        await respond(writer, text, headers=headers, status=status)

    return fault


def repeats_for_ever(beginning: str, piece: str) -> Fault:
    async def fault(writer: asyncio.StreamWriter) -> None:
        writer.write(beginning.encode())
        while True:
            writer.write(piece.encode() * 4096)
            await writer.drain()

    return fault


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def breaks_off(writer: asyncio.StreamWriter) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\n{_SSE}transfer-encoding: chunked\r\n\r\n".encode())
    event = chunk("half")
    writer.write(f"{len(event):x}\r\n{event}\r\n".encode())
    await writer.drain()


async def is_silent(_: asyncio.StreamWriter) -> None:
    pass


def tells(**usage: Any) -> Fault:
    told = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **usage}
    return answers(
        chunk("done") + chunk(finish_reason="stop") + chunk(usage=told) + "data: [DONE]\n\n", _SSE + "x-a2a-run-id: far-run\r\n"
    )


EMPTY = ("null", "{}", '{"choices": null}', '{"choices": [], "usage": 5}', '{"choices": [{"delta": null}]}')
"""Chunks that carry nothing."""

FAULTS: Mapping[str, Fault] = {
    "lead": answers("{}", "content-type: application/json\r\n", status="400 Bad Request"),
    "html": answers("<html>It works!</html>", "content-type: text/html\r\n"),
    "whole": answers('{"choices": []}', "content-type: application/json\r\n"),
    "garbage": answers("data: {not json\n\n"),
    "deep": answers(f"data: {'[' * 100_000}\n\n"),
    "empty-chunks": answers("".join(f"data: {empty}\n\n" for empty in EMPTY) + chunk("done", "stop") + "data: [DONE]\n\n"),
    "odd-chunk": answers(chunk("ab ") + 'data: {"choices": 5}\n\n' + chunk("cd", "stop") + "data: [DONE]\n\n"),
    "no-end": answers(chunk("half")),
    "breaks-off": breaks_off,
    "hangs-up": hangs_up,
    "packed": answers("\x1f", _SSE + "content-encoding: gzip\r\n"),
    "endless-headers": repeats_for_ever("HTTP/1.1 200 OK\r\n", "x-more: of the same\r\n"),
    "endless-line": repeats_for_ever(f"HTTP/1.1 200 OK\r\n{_SSE}\r\ndata: ", "x"),
    "redirect": answers("", "location: http://127.0.0.1:1/secret\r\n", status="307 Temporary Redirect"),
    "busy": answers("{}", "x-should-retry: true\r\nretry-after: 0\r\n", status="503 Service Unavailable"),
    "closed": answers("{}", "x-should-retry: false\r\nretry-after: 0\r\n", status="503 Service Unavailable"),
    "silent": is_silent,
    "greedy": tells(cost=5.0),
    "negative": tells(cost=-1.0),
    "not-a-number": tells(cost_details={"self": "NaN", "descendants": "0", "complete": True}),
    "boastful": tells(
        cost=0.5,
        delegation={
            "turns": 10**30,
            "runs": 10**30,
            "tree_tokens": {"prompt": 10**30, "completion": 1},
            "stop_reason": "\0\ud800",
        },
    ),
    "flaky": hangs_up,
    "dies": hangs_up,
}
