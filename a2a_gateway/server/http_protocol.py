"""uvicorn's HTTP protocol, as a gateway needs it. Above it stands `serving`.

- What is no HTTP is answered in OpenAI's shape, as every other error.
- A request's head is bounded: httptools keeps as much of one as comes, from whomever.
- An offer to speak another protocol is not seen: httptools would drop the body of the request. Java's own client makes one
  (`Upgrade: h2c`) with each first request over plain HTTP.
- The head of a response is sent together with the first of its body. uvicorn writes them one after the other, and uvloop sends
  each at once. The head alone wakes the client, which may get the processor then, while the first word waits: some 0.4 ms of a
  stream's first delta.
"""

import asyncio
import re
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from a2a_gateway.errors import BodyTooLarge, GatewayError, RequestError
from a2a_gateway.wire.errors import render_error
from a2a_gateway.wire.json_bytes import encode_json

_HEAD_BYTES: Final = 256 * 1024
"""More than all that a peer's grant and its list of agents can come to. A chunked body's trailers count as a head."""
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class GatewayHttpProtocol(HttpToolsProtocol):
    """Serves one connection."""

    _head_bytes = 0
    _is_between_requests = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _HeadHolder(transport, self.loop))

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(_without_upgrade(data) if self._is_between_requests else data)
        if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                BodyTooLarge(f"The head of the request has more than {_HEAD_BYTES} bytes. Send fewer, or shorter, headers.")
            )

    def on_message_begin(self) -> None:
        self._is_between_requests = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._is_between_requests = True
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(RequestError(f"{msg} This is an HTTP/1.1 server; TLS is a proxy's task."))

    def _refuse(self, error: GatewayError) -> None:
        """Answer and hang up; where an answer is under way already, only hang up."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        if cycle is None or cycle.response_complete or not cycle.response_started:
            status, headers, body = render_error(error)
            headers |= {"content-type": "application/json", "content-length": str(len(encode_json(body))), "connection": "close"}
            head = [*self.server_state.default_headers, *((name.encode(), value.encode()) for name, value in headers.items())]
            lines = b"".join(b"%b: %b\r\n" % header for header in head)
            self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + encode_json(body))
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Leave the header out of the head that the data begins with, if all of that is there: clients send it in one piece."""
    if b"pgrade" not in data:
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + end + rest if end else data


class _HeadHolder:
    """A transport that holds a head until more is written, or this turn of the loop is over; otherwise the transport."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if not self._head and data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._release)
            return
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def close(self) -> None:
        self._release()
        self._transport.close()

    def _release(self) -> None:
        if self._head:
            self.write(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
