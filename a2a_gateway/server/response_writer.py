"""Write one response to a client's socket, and notice when the client leaves."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass

from starlette.types import Receive, Send

from a2a_gateway.wire.presenter import WireResponse

type RawHeaders = list[tuple[bytes, bytes]]
"""Headers as ASGI takes them."""


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Encode headers."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


@dataclass(slots=True)
class ResponseWriter:
    """Writes one response.

    Attributes:
        started: whether the status has been sent.
    """

    send: Send
    started: bool = False

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send the status and the headers."""
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool) -> None:
        """Send a part of the body; `more` means that others follow."""
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def write_whole(self, response: WireResponse, headers: Mapping[str, str]) -> None:
        """Send a complete response, with these headers beside its own."""
        status, own_headers, body = response
        await self.start(status, raw_headers({**headers, **own_headers, "content-length": str(len(body))}))
        await self.write(body, more=False)


async def write_until_client_leaves(writing: Coroutine[None, None, None], writer: ResponseWriter, receive: Receive) -> None:
    """Write a response to its end, or until the client disconnects. The body of the request must have been received."""
    answering, leaving = asyncio.create_task(writing), asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.wait({answering, leaving})
    if not answering.cancelled():
        answering.result()
    elif not writer.started:
        # No client reads it, but a middleware of the host application may treat a missing response as a failure.
        await writer.start(499, [])
        await writer.write(b"", more=False)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
