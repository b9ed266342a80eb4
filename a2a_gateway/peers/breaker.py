"""A circuit breaker: stop sending requests to a peer that keeps failing. Pure; its clock is passed in.

    closed ── failures in a row ──▶ open ── its pause is over ──▶ half-open ── the next request succeeds ──▶ closed
                                     ▲                               │
                                     └──── it fails: a longer pause ─┘

In the half-open state one request goes as a trial, and the others wait for its result, but for one more pause at most. So a trial
that was cancelled, and has no result, does not block the others for good.
"""

import time
from collections.abc import Callable
from typing import Final

TOLERATED: Final = 3
"""The number of failures in a row that opens the breaker."""
PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0


class Breaker:
    """The breaker of one peer. `now` is in seconds, from any origin."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._again_at = now()

    @property
    def wait_s(self) -> float:
        """How long no request may be sent; 0 if one may be sent now."""
        return max(0.0, self._again_at - self._now())

    @property
    def failures(self) -> int:
        """The number of failures in a row."""
        return self._failures

    def begin(self) -> None:
        """Record that a request is sent. If it is a trial, the others have to wait."""
        if self._failures >= TOLERATED:
            self._again_at = self._now() + self._pause_s

    def record_success(self) -> None:
        """Record that the peer has answered, with whatever answer."""
        self._failures, self._again_at = 0, self._now()

    def record_failure(self) -> None:
        """Record that the peer was not reached, or broke the connection."""
        self._failures += 1
        if self._failures >= TOLERATED:
            self._again_at = self._now() + self._pause_s

    @property
    def _pause_s(self) -> float:
        doublings = min(self._failures - TOLERATED, 10)
        return float(min(PAUSE_S * 2**doublings, LONGEST_PAUSE_S))
