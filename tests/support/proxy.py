"""A small HTTP proxy that records who it was asked for, and passes nothing on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from anyio.from_thread import start_blocking_portal

PROXY_VARIABLES = tuple(each for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for each in (name, name.lower()))
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class RecordingProxy:
    """Refuses every request with 403, as a company's proxy does with addresses that it does not know.

    Attributes:
        heads: what clients have sent, up to the end of each head.
    """

    url: str = ""
    heads: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Method and target of each request: `CONNECT host:443` or `POST http://host/path`."""
        return [head.partition(" HTTP/")[0] for head in self.heads]

    @classmethod
    @contextmanager
    def in_thread(cls) -> "Iterator[RecordingProxy]":
        """Listen, from a thread with an event loop of its own."""
        proxy = cls()
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(proxy._listening()):
            yield proxy

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._refuse, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(REFUSED)
        await writer.drain()
        writer.close()
