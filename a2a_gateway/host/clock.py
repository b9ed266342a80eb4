"""The machine's clocks."""

import time
from collections.abc import Callable


class SystemClock:
    """A wall clock, and a steady clock that starts at the wall clock's time.

    The wall clock jumps when it is adjusted or the machine has slept. `now` does not: it equals the wall clock when it is
    synchronised, and advances evenly from then on. So changes of the wall clock do not affect deadlines.

    Args:
        wall: seconds since the epoch; may jump.
        steady: seconds from any origin; passes evenly.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self.synchronise()

    def now(self) -> float:
        """Return the present time; two values differ by the time that has passed between them."""
        return self._epoch + self._steady()

    def wall(self) -> float:
        """Return the present time of the wall clock, for calendar days and for times that other machines compare with theirs."""
        return self._wall()

    def synchronise(self) -> None:
        """Set `now` to the wall clock. Safe only while there is no deadline."""
        self._epoch = self._wall() - self._steady()
