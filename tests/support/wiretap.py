"""A wire between clients and a gateway that remembers every byte, in both directions."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from anyio.from_thread import start_blocking_portal

_CREDENTIAL = re.compile(rb"(?i)^authorization: bearer ([^\r\n]+)", re.MULTILINE)


class Wiretap:
    """Passes connections on to `target`, which may become known after it has begun to listen."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.received = bytearray()
        self.target: tuple[str, int] | None = None
        self.url = ""

    @property
    def credentials(self) -> set[str]:
        """What clients have presented."""
        return {found.decode() for found in _CREDENTIAL.findall(bytes(self.sent))}

    @classmethod
    @contextmanager
    def in_thread(cls) -> "Iterator[Wiretap]":
        """Listen, from a thread with an event loop of its own."""
        wiretap = cls()
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(wiretap._listening()):
            yield wiretap

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.target is not None
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        await asyncio.gather(_copy(reader, far_writer, self.sent), _copy(far_reader, writer, self.received))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, memory: bytearray) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            memory += data
            writer.write(data)
            await writer.drain()
    writer.close()
