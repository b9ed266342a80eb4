"""Settings of the garbage collector for a process that is a gateway's own. A program that embeds a gateway keeps its own."""

import gc
from typing import Final

_MIDDLE_AFTER: Final = 50
"""Collections of the youngest generation before one of the middle one, which with 200 runs alive stops them all for some 30 ms.
What a run has used goes with its end, without a collection, so there is little to be found."""
_FULL_AFTER: Final = 10
"""Collections of the middle generation before a full one, which takes a little longer."""


def freeze_survivors() -> None:
    """Exclude all objects that exist now from garbage collection, and collect the older generations less often.

    These are half a million objects that live as long as the process; looking through them stops it for a third of a second.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # so that it does not wait for a quarter of those, too, to have become garbage, before it looks at the oldest
    young, *_ = gc.get_threshold()
    gc.set_threshold(young, _MIDDLE_AFTER, _FULL_AFTER)
