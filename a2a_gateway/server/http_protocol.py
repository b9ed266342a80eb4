"""uvicorn's HTTP protocol with the changes that a gateway needs. `uvicorn_server` uses it.

- Bytes that are not HTTP get an error in OpenAI's shape, like every other error.
- The size of a request's head is limited to the byte (`request_framing`), and so is its time (`connection_limits`).
- An `Upgrade` to another protocol is declined, because httptools would drop the body of the request. Java's HTTP client sends one
  (`Upgrade: h2c`) with each first request over plain HTTP.
- A client that half-closes its connection and still reads gets its response (`client_probe`).
- The head of a response is sent together with the first part of its body. uvicorn writes them one after the other, and uvloop
  sends each write at once. The head alone would wake the client, which may then take the processor while the first text waits:
  that costs a stream's first delta some 0.4 ms.
"""

import asyncio
from typing import Any, Final, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from a2a_gateway.errors import BodyTooLarge, GatewayError, RequestError
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.server.client_probe import ClientProbe
from a2a_gateway.server.connection_limits import ConnectionLimits, Phase
from a2a_gateway.server.request_framing import RequestFraming
from a2a_gateway.server.request_log import note_refusal
from a2a_gateway.server.route_class import error_response
from a2a_gateway.wire.errors import render_error
from a2a_gateway.wire.json_bytes import encode_json

log = get_log(__name__)

_FRAMING_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})


class GatewayHttpProtocol(HttpToolsProtocol):
    """Serves one connection.

    Attributes:
        waited_s, body_bytes: see `LimitedConnection`.
    """

    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # None before the first request

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._framing = RequestFraming()
        self._body_is_coming = False
        self._unsent_bytes = 0
        self.waited_s: float | None = None
        self.body_bytes = 0

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        others = cast("set[GatewayHttpProtocol]", self.connections)
        if not self._limits.make_room(others, len(others)):
            self.app = self._answer_full
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _HeadBuffer(transport, self.loop))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._framing.is_between_requests and not self._body_is_coming:
            self.waited_s = None
        start = 0
        try:
            while start < len(data) and not self.transport.is_closing():
                end = self._framing.next_piece(data, start)
                self._parse(data[start:end])
                start = end
        except BodyTooLarge as error:
            self.refuse(error)
        except httptools.HttpParserError as error:
            self.refuse(
                RequestError(f"This is no HTTP request: {error}. This server accepts HTTP/1.1; a proxy has to terminate TLS.")
            )

    def eof_received(self) -> bool:  # type: ignore[override]
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self._body_is_coming or self.pipeline:
            return False
        probe = ClientProbe(self.transport, cycle)
        if probe.has_closed():
            return False
        cycle.keep_alive = False
        probe.begin(self.loop)
        return True

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        if not self._body_is_coming:
            super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._body_is_coming:  # else it is a trailer
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._body_is_coming:
            return
        super().on_headers_complete()
        self._framing.complete_head(self.headers)
        self._body_is_coming = True
        self.waited_s, self.body_bytes = None, 0

    def on_chunk_header(self) -> None:
        self._framing.complete_chunk_line()

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._framing.complete_message()
        self._body_is_coming = False
        self.waited_s = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.waited_s = None
        super().on_response_complete()

    def _parse(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._stay_in_http()

    def _stay_in_http(self) -> None:
        """Continue a request that asks for another protocol, in a new parser that gets only the headers that frame its body."""
        framing = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING_HEADERS)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")

    # For `connection_limits`

    @property
    def phase(self) -> Phase:
        cycle = self.cycle
        is_answered = cycle is None or cycle.response_complete
        if self.transport.is_closing() or (is_answered and self.transport.get_write_buffer_size()):
            return Phase.UNREAD
        if cycle is None or is_answered:
            return Phase.HEAD
        is_paused = self.pipeline or self.flow.read_paused or cycle.waiting_for_100_continue
        return Phase.BODY if self._body_is_coming and not is_paused and not cycle.response_started else Phase.ANSWER

    def note_reading(self) -> None:
        """Start the wait again if the client has read a part of what is left."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self.waited_s = unsent_bytes, None

    def refuse(self, error: GatewayError) -> None:
        """Close the connection, after an error response if one can still be sent.

        No error can be sent while a response is under way, or between requests.
        """
        if self._can_be_answered:
            status, headers, body = render_error(error)
            log.info("request_refused", status=status, code=error.code, client=self.client[0] if self.client else None)
            headers |= {"content-type": "application/json", "content-length": str(len(encode_json(body))), "connection": "close"}
            head = [*self.server_state.default_headers, *((name.encode(), value.encode()) for name, value in headers.items())]
            lines = b"".join(b"%b: %b\r\n" % header for header in head)
            self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + encode_json(body))
            if self._body_is_coming:
                note_refusal(cast(Scope, self.scope), status)
        self.waited_s = None
        self.transport.close()

    @property
    def _can_be_answered(self) -> bool:
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return not self._body_is_coming and not self._framing.is_between_requests
        return not self.pipeline and not cycle.response_started

    def abort(self) -> None:
        """Close the connection, and discard what the client does not read."""
        self.transport.abort()

    async def _answer_full(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._limits.full()
        log.info("request_refused", status=429, code=error.code, client=self.client[0] if self.client else None)
        response = error_response(error)
        response.headers["connection"] = "close"
        await response(scope, receive, send)


class _HeadBuffer:
    """Wraps a transport: buffers the head of a response until more is written, or until the next iteration of the event loop."""

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
