"""Find out whether a client that has ended its side of a connection still reads.

A client that only shuts down writing (`nc -N`, `socket.shutdown`) waits for its answer. One that has closed the connection has
left, and its run must end. Both send the same FIN. Two things distinguish them:

- Of a client on this machine the kernel knows whether a process still has the socket. That costs nothing and is looked at first.
- A closed socket answers data with RST, after which the next write fails. So a little is written, a few times, which a reader
  must ignore: `100 Continue` before the response, of which any number may come (RFC 9110, section 15.2); and within a chunked one
  a zero in front of the next chunk's size (RFC 9112, section 7.1).

The first write comes late enough for a short answer to need none. Further ones are for what stands between, as port forwarding of
ssh and Docker: each such program has to fail in writing before it closes its own side.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from a2a_gateway.host.tcp_sockets import client_socket
from a2a_gateway.server.origin import ConnectionEnds

_LOOK_AFTER_S: Final = (0.01, 0.05)
"""A client may be caught in the middle of closing."""
_WRITE_AFTER_S: Final = (0.25, 0.3, 0.45, 0.75, 1.3, 2.4)
"""Zeros in front of a size count as its digits, of which clients take 16."""
_PATIENCE_S: Final = 0.5
"""How long an HTTP/1.0 client, which can be sent nothing before its response, is taken to be there."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientProbe:
    """Watches over one client that has ended its side, until its answer is complete. The transport closes if it has left."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle

    def has_closed(self) -> bool:
        """Return whether the client is on this machine and has closed its socket."""
        connection = ConnectionEnds.of(self._cycle.scope)
        if connection is None or sys.platform != "linux":
            return False
        try:
            socket = client_socket(connection.client, connection.server)
        except OSError:
            return False
        return socket is not None and socket.inode == 0

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Find out about the client while its answer is made."""
        for delay_s in _LOOK_AFTER_S:
            loop.call_later(delay_s, self._while_answering, self._look)
        if self._cycle.scope["http_version"] == "1.0" and not self._cycle.response_started:
            loop.call_later(_PATIENCE_S, self._while_answering, self._hang_up)
            return
        for delay_s in _WRITE_AFTER_S:
            loop.call_later(delay_s, self._while_answering, self._write)

    def _while_answering(self, act: Callable[[], None]) -> None:
        if not self._transport.is_closing() and not self._cycle.response_complete:
            act()

    def _look(self) -> None:
        if self.has_closed():
            self._transport.close()

    def _write(self) -> None:
        if not self._cycle.response_started:
            self._transport.write(_CONTINUE)
        elif self._cycle.chunked_encoding:
            self._transport.write(b"0")

    def _hang_up(self) -> None:
        if not self._cycle.response_started:
            self._transport.close()
