"""An HTTP server on a bare socket, for answers that are exact bytes or none."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        """The content as JSON; an empty object if it is empty."""
        body: dict[str, Any] = json.loads(self.content or b"{}")
        return body


type Answer = Callable[[RawRequest, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request, after which its connection is closed."""


@asynccontextmanager
async def raw_server(answer: Answer) -> AsyncIterator[asyncio.Server]:
    """Serve one request per connection on a port of this machine; `url_of` returns its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the client has closed its end
                await answer(await read_request(reader), reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server


def url_of(server: asyncio.Server) -> str:
    """Return the root URL of a server."""
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def read_request(reader: asyncio.StreamReader) -> RawRequest:
    """Read one request whose body has a length."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ", 2)
    return RawRequest(method, path, headers, content)
