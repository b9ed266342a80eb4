"""The clock of the real world."""

import time


class SystemClock:
    """Seconds since the epoch, as the operating system tells them."""

    def now(self) -> float:
        """Return the present."""
        return time.time()
