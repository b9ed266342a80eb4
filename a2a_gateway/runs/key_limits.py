"""Limits on the number of requests of a key. Plain frozen data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How many requests of one key may begin trees; None means unlimited.

    Attributes:
        max_concurrent_runs: trees of the key under way at once, those that wait for a slot included.
        requests_per_minute: trees that the key begins within any 60 seconds.
    """

    max_concurrent_runs: int | None = None
    requests_per_minute: int | None = None
