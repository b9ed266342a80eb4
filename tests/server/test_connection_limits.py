"""Which connections have to go: those that keep the gateway waiting, never those that wait for it."""

from dataclasses import dataclass, field

import pytest

from a2a_gateway.errors import CapacityExceeded, GatewayError, RequestTimeout
from a2a_gateway.server.connection_limits import LEAST_BYTES_PER_S, ConnectionLimits, Phase

LIMITS = ConnectionLimits(max_connections=3, head_timeout_s=20, body_timeout_s=30)


@dataclass(eq=False)
class OpenConnection:
    """A connection that stays in its phase."""

    phase: Phase
    waited_s: float | None = None
    body_bytes: int = 0
    reads: bool = False
    refused: list[type[GatewayError]] = field(default_factory=list)
    aborted: bool = False

    def note_reading(self) -> None:
        if self.reads:
            self.waited_s = None

    def refuse(self, error: GatewayError) -> None:
        self.refused.append(type(error))

    def abort(self) -> None:
        self.aborted = True


def seconds_until_closed(connection: OpenConnection, *, most_s: int = 1000) -> int | None:
    for second in range(1, most_s):
        LIMITS.close_overdue([connection], 1.0)
        if connection.refused or connection.aborted:
            return second
    return None


@pytest.mark.parametrize(
    ("connection", "seconds"),
    [
        (OpenConnection(Phase.HEAD), 22),
        (OpenConnection(Phase.BODY), 32),
        (OpenConnection(Phase.BODY, body_bytes=40 * LEAST_BYTES_PER_S), 72),
        (OpenConnection(Phase.UNREAD), 32),
        (OpenConnection(Phase.UNREAD, reads=True), None),
        (OpenConnection(Phase.ANSWER), None),
    ],
)
def test_a_client_is_waited_for_as_long_as_its_phase_allows(connection: OpenConnection, seconds: int | None) -> None:
    assert seconds_until_closed(connection) == seconds
    assert connection.refused == ([] if connection.aborted or seconds is None else [RequestTimeout])


def test_time_in_which_the_gateway_itself_stood_still_does_not_count() -> None:
    connection = OpenConnection(Phase.HEAD, waited_s=1.0)
    LIMITS.close_overdue([connection], 3600.0)
    assert connection.refused == []


def test_the_connection_that_has_waited_for_the_longest_makes_room() -> None:
    busy, old, new = OpenConnection(Phase.ANSWER, 99), OpenConnection(Phase.HEAD, 9), OpenConnection(Phase.HEAD, 1)
    assert LIMITS.make_room([busy, new], 2)
    assert LIMITS.make_room([busy, new, old], 3)
    assert (busy.refused, new.refused, old.refused) == ([], [], [CapacityExceeded])


@pytest.mark.parametrize("phase", [Phase.BODY, Phase.ANSWER, Phase.UNREAD])
def test_requests_under_way_make_no_room(phase: Phase) -> None:
    connections = [OpenConnection(phase) for _ in range(3)]
    assert not LIMITS.make_room(connections, 3)
    assert [each.refused for each in connections] == [[], [], []]
