"""Find out whether a client that has half-closed its connection still reads.

A client that shut down only its writing side (`nc -N`, `socket.shutdown`) waits for its response. A client that closed the
connection has left, and its run must end. Both send the same FIN. Two things distinguish them:

- The kernel knows whether a process on this machine still has the client's socket. That check costs nothing and comes first.
- A closed socket answers data with RST, after which the next write fails. So the probe writes a few bytes that a reader must
  ignore: before the response `100 Continue`, which may be repeated (RFC 9110, section 15.2); within a chunked response a zero in
  front of the next chunk's size (RFC 9112, section 7.1).

The first write comes so late that a short response needs none. It is repeated because of programs in between, such as the port
forwarding of ssh and Docker: each of them must itself fail to write before it closes its side.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from a2a_gateway.host.tcp_sockets import client_socket
from a2a_gateway.server.origin import ConnectionEnds

_LOOK_AFTER_S: Final = (0.01, 0.05)
"""When to ask the kernel again: the client may be in the middle of closing."""
_WRITE_AFTER_S: Final = (0.25, 0.3, 0.45, 0.75, 1.3, 2.4)
"""When to write. Few times, because zeros in front of a size count as its digits, and clients accept 16."""
_PATIENCE_S: Final = 0.5
"""How long an HTTP/1.0 client is assumed to read: before its response it can be sent nothing."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientProbe:
    """Probes one client that has half-closed, until its response is complete. Closes the transport if the client has left."""

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
        """Schedule the probes, which go on while the response is made."""
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
