"""A circuit breaker: whether a peer is worth asking just now. Pure; its clock is passed in.

    closed ── failures in a row ──▶ open ── its pause is over ──▶ half-open ── the next request succeeds ──▶ closed
                                     ▲                               │
                                     └──── it fails: a longer pause ─┘

In the half-open state one request goes as a trial, and the others wait for its result, for one more pause at most: so a trial
that ends without any, because it was cancelled, blocks nobody for good.
"""

import time
from collections.abc import Callable
from typing import Final

TOLERATED: Final = 3
"""Failures in a row that open it."""
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
        """How long nothing should be sent; 0 if a request may go."""
        return max(0.0, self._again_at - self._now())

    @property
    def failures(self) -> int:
        """How often the peer has failed in a row."""
        return self._failures

    def begin(self) -> None:
        """A request goes. As a trial, it keeps the others back."""
        if self._failures >= TOLERATED:
            self._again_at = self._now() + self._pause_s

    def succeeded(self) -> None:
        """The peer has answered, whatever it has said."""
        self._failures, self._again_at = 0, self._now()

    def failed(self) -> None:
        """The peer was not reached, or broke off."""
        self._failures += 1
        if self._failures >= TOLERATED:
            self._again_at = self._now() + self._pause_s

    @property
    def _pause_s(self) -> float:
        doublings = min(self._failures - TOLERATED, 10)
        return float(min(PAUSE_S * 2**doublings, LONGEST_PAUSE_S))
