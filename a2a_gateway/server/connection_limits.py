"""Limit connections: their number, and how long a client may take to send a request.

An unfinished head or body holds a connection and some memory, and its client has shown no key yet. So time counts against a
client while the gateway waits for it, and never while it waits for the gateway: answers may take hours. Where all connections are
in use, the one makes room that has kept the gateway waiting for the longest. A request under way is never given up for a new one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from a2a_gateway.errors import CapacityExceeded, GatewayError, RequestTimeout

LEAST_BYTES_PER_S: Final = 10_000
"""Of a body, on average; less is a client that has stalled, or means to."""
_LONGEST_TICK_S: Final = 2.0
"""Time in which this process itself stood still must not count against clients."""


class Phase(Enum):
    """What a connection waits for."""

    HEAD = auto()  # for the client, to send the next head, or what is left of a body that has been answered
    BODY = auto()  # for the client, to send the rest of a body
    ANSWER = auto()  # for the gateway
    UNREAD = auto()  # for the client, to read what is left


class LimitedConnection(Protocol):
    """A connection under limits.

    Attributes:
        waited_s: for how long it has waited for its client; the connection sets it to null when a phase begins.
        body_bytes: what has come of the present request's body.
    """

    waited_s: float | None
    body_bytes: int

    @property
    def phase(self) -> Phase: ...

    def note_reading(self) -> None: ...

    def refuse(self, error: GatewayError) -> None: ...

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one server.

    Attributes:
        body_timeout_s: grows by a second for each `LEAST_BYTES_PER_S` that have come.
    """

    max_connections: int
    head_timeout_s: float
    body_timeout_s: float

    def make_room(self, connections: Iterable[LimitedConnection], count: int) -> bool:
        """If all are in use, close the one that waits longest for its client; return whether one more may be served."""
        if count < self.max_connections:
            return True
        waiting = [each for each in connections if each.phase is Phase.HEAD]
        if waiting:
            max(waiting, key=lambda each: each.waited_s or 0.0).refuse(self.full())
        return bool(waiting)

    def full(self) -> GatewayError:
        """Return the error of a connection for which there is no room."""
        return CapacityExceeded(
            f"All {self.max_connections} connections of the gateway are in use. Try again later, or raise A2A_MAX_CONNECTIONS."
        )

    def close_overdue(self, connections: Iterable[LimitedConnection], elapsed_s: float) -> None:
        """Count time against connections that wait for their clients, and close those that have waited too long."""
        for connection in connections:
            phase = connection.phase
            if phase is Phase.ANSWER:
                continue
            if phase is Phase.UNREAD:
                connection.note_reading()
            waited_s = 0.0 if connection.waited_s is None else connection.waited_s + min(elapsed_s, _LONGEST_TICK_S)
            connection.waited_s = waited_s
            match phase:
                case Phase.HEAD if waited_s > self.head_timeout_s:
                    connection.refuse(
                        RequestTimeout(
                            f"The head of the request was not complete within {self.head_timeout_s:g} s. Send it faster."
                        )
                    )
                case Phase.BODY if waited_s > self.body_timeout_s + connection.body_bytes / LEAST_BYTES_PER_S:
                    connection.refuse(
                        RequestTimeout(
                            f"{connection.body_bytes} bytes of the body came in {waited_s:.0f} s. "
                            f"Send it within {self.body_timeout_s:g} s, and a second more for each {LEAST_BYTES_PER_S} bytes."
                        )
                    )
                case Phase.UNREAD if waited_s > self.body_timeout_s:
                    connection.abort()
