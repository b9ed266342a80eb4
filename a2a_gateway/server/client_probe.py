"""Find out whether a client that has ended its side of a connection still reads.

A client that only shuts down writing (`nc -N`, `socket.shutdown`) waits for its answer. One that has closed the connection has
left, and its run must end. Both send the same FIN. Only data tells them apart: a closed socket answers it with RST, after which
the next write fails. So a little is written at once, and again a few times, which a reader must ignore:

- before the response, `100 Continue`, of which any number may come first (RFC 9110, section 15.2);
- within a chunked one, a zero in front of the next chunk's size (RFC 9112, section 7.1).

Some are sent later for what stands between, as port forwarding of ssh and Docker: each has to fail in writing before it closes.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_AT_S: Final = (0.0, 0.05, 0.2, 0.6, 1.2, 2.4)
"""Zeros in front of a size count as its digits, of which clients take 16."""
_PATIENCE_S: Final = 0.5
"""How long an HTTP/1.0 client, which can be sent nothing before its response, is taken to be there."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def probe_client(transport: asyncio.Transport, cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop) -> None:
    """Begin to write to a client that may have left; the transport is lost if it has."""
    if cycle.scope["http_version"] == "1.0" and not cycle.response_started:
        loop.call_later(_PATIENCE_S, _hang_up, transport, cycle)
        return
    for delay_s in _AT_S:
        loop.call_later(delay_s, _write, transport, cycle)


def _write(transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
    if transport.is_closing() or cycle.response_complete:
        return
    if not cycle.response_started:
        transport.write(_CONTINUE)
    elif cycle.chunked_encoding:
        transport.write(b"0")


def _hang_up(transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
    if not cycle.response_started:
        transport.close()
