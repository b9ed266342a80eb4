"""Limit how many trees each key has under way, and how many it begins in a minute. A request beyond a limit is refused at once.

A request that begins a tree counts, whether a person, a program or a peer sends it; a peer has a key like any other caller. It
counts from before it waits for a slot, so that one key cannot fill the queue, until just before its client receives the end of
the run, so that the client may send its next request at once. These requests do not count:

- requests of run tokens, because a tree is bounded by its own depth, breadth and runs, and a refused child would waste what its
  parent has spent already;
- requests that get the run of an earlier one, and those refused here, because a client that repeats them must succeed in the end.

The counts are in memory, and exact: a database is used by one gateway process at a time, and no run outlives it. A restart begins
a new minute.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from a2a_gateway.errors import CapacityExceeded
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import KeyId, KeyRecord, RunId

_MINUTE_S: Final = 60.0
_RUN_ENDS_WITHIN_S: Final = 5.0
"""An estimate, for `Retry-After`."""


@dataclass(slots=True)
class Throttle:
    """Counts the trees of keys. Belongs to one event loop.

    Attributes:
        defaults: the limits of a key without its own.
        now: seconds that pass evenly, from any origin.
    """

    defaults: RequestLimits = field(default_factory=RequestLimits)
    now: Callable[[], float] = time.monotonic
    _under_way: dict[KeyId, set[RunId]] = field(default_factory=dict)
    _begun_at: dict[KeyId, deque[float]] = field(default_factory=dict)

    def enter(self, key: KeyRecord, run_id: RunId) -> None:
        """Count a request that begins a tree; each is to be ended with `leave`.

        Raises:
            CapacityExceeded: the key is at one of its limits.
        """
        own = key.request_limits
        most_at_once = self.defaults.max_concurrent_runs if own.max_concurrent_runs is None else own.max_concurrent_runs
        per_minute = self.defaults.requests_per_minute if own.requests_per_minute is None else own.requests_per_minute
        under_way = self._under_way.get(key.id, ())
        if most_at_once is not None and len(under_way) >= most_at_once:
            raise CapacityExceeded(
                f"The key {key.name!r} has {len(under_way)} runs under way, and {most_at_once} is its limit "
                "(max_concurrent_runs). Wait until one of them has ended.",
                details={"scope": "key", "max_concurrent_runs": most_at_once},
                retry_after_s=_RUN_ENDS_WITHIN_S,
            )
        if per_minute is not None:
            self._count_in_minute(key, per_minute)
        self._under_way.setdefault(key.id, set()).add(run_id)

    def leave(self, key_id: KeyId, run_id: RunId) -> None:
        """Count a tree as ended; one that is not counted, such as a child, is ignored."""
        under_way = self._under_way.get(key_id, set())
        under_way.discard(run_id)
        if not under_way:
            self._under_way.pop(key_id, None)

    def _count_in_minute(self, key: KeyRecord, most: int) -> None:
        now, begun_at = self.now(), self._begun_at.setdefault(key.id, deque())
        while begun_at and begun_at[0] <= now - _MINUTE_S:
            begun_at.popleft()
        if len(begun_at) >= most:
            raise CapacityExceeded(
                f"The key {key.name!r} has begun {len(begun_at)} runs within a minute, and {most} is its limit "
                "(requests_per_minute). Send fewer requests.",
                details={"scope": "key", "requests_per_minute": most},
                # One more fits once all but `most - 1` of them are a minute old.
                retry_after_s=begun_at[len(begun_at) - most] + _MINUTE_S - now,
            )
        begun_at.append(now)
