"""The clocks of the real world."""

import time
from collections.abc import Callable


class SystemClock:
    """The machine's clocks.

    A wall clock jumps: it is set right, or the machine slept. `now` does not: it was right when it was last set right, and has
    passed evenly since, so that a deadline is a duration, whatever is done to the wall clock.

    Args:
        wall: seconds since the epoch; may jump.
        steady: seconds from any origin; passes evenly.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self.set_right()

    def now(self) -> float:
        """Return the present; two readings differ by the time that has passed between them."""
        return self._epoch + self._steady()

    def wall(self) -> float:
        """Return the present as the machine tells it now, for days, and for what other machines compare with their own."""
        return self._wall()

    def set_right(self) -> None:
        """Let `now` jump to where the wall clock is. Harmless while nothing is under way that has a deadline."""
        self._epoch = self._wall() - self._steady()
