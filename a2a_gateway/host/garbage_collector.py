"""Tune the garbage collector of a process that belongs to the gateway, and of no other."""

import gc
from typing import Final

_MIDDLE_AFTER: Final = 50
"""Collections of the youngest generation before one of the middle generation, which stops 200 live runs for some 30 ms. A run's
objects are freed at its end by reference counts, so a collection finds little."""
_FULL_AFTER: Final = 10
"""Collections of the middle generation before a full collection, which takes a little longer."""


def freeze_survivors() -> None:
    """Exclude all objects that exist now from garbage collection, and collect the older generations less often.

    They are half a million objects that live as long as the process. Collecting them stops the process for a third of a second.
    """
    gc.collect()
    gc.freeze()
    # A full collection waits until new objects are a quarter of those that the last one examined. This one examines few.
    gc.collect()
    young, *_ = gc.get_threshold()
    gc.set_threshold(young, _MIDDLE_AFTER, _FULL_AFTER)
