"""Limit connections: their number, and how long a client may take to send a request.

An unfinished head or body occupies a connection and some memory, and its client is not authenticated yet. So a client is timed
while the gateway waits for it, and never while it waits for the gateway: a response may take hours. If all connections are in
use, the one that has kept the gateway waiting longest is closed for a new one, but never one with a request under way.

    phase     the connection waits for                                           timeout
    HEAD      the next head, or the rest of a body whose response is complete    `head_timeout_s`
    BODY      the rest of a body                                                 `body_timeout_s`, more for each byte received
    ANSWER    the gateway                                                        no timeout
    UNREAD    the client to read what is left of a response                      `body_timeout_s` without progress
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from a2a_gateway.errors import CapacityExceeded, GatewayError, RequestTimeout

LEAST_BYTES_PER_S: Final = 10_000
"""Average rate of a body, below which its client counts as stalled."""
_LONGEST_TICK_S: Final = 2.0
"""A longer pause of this process itself, such as a suspended machine, does not count against clients."""


class Phase(Enum):
    """What a connection waits for; see the table above."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    UNREAD = auto()


class LimitedConnection(Protocol):
    """A connection under limits.

    Attributes:
        waited_s: for how long it has waited for its client; None from the start of a phase until time is first counted.
        body_bytes: how much of the present request's body was received.
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
        body_timeout_s: extended by a second for each `LEAST_BYTES_PER_S` received.
    """

    max_connections: int
    head_timeout_s: float
    body_timeout_s: float

    def make_room(self, connections: Iterable[LimitedConnection], count: int) -> bool:
        """Return whether one more may be served; if all are in use, close the one that waits longest for its client."""
        if count < self.max_connections:
            return True
        waiting = [each for each in connections if each.phase is Phase.HEAD]
        if waiting:
            max(waiting, key=lambda each: each.waited_s or 0.0).refuse(self.full())
        return bool(waiting)

    def full(self) -> GatewayError:
        """Return the error for a connection beyond the limit."""
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
                            f"{connection.body_bytes} bytes of the body arrived in {waited_s:.0f} s. "
                            f"Send it within {self.body_timeout_s:g} s, and a second more for each {LEAST_BYTES_PER_S} bytes."
                        )
                    )
                case Phase.UNREAD if waited_s > self.body_timeout_s:
                    connection.abort()
