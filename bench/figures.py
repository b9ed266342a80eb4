"""What is measured, and the bar that it is held to. Plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. Without a `bar` it is for information."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["lower", "higher"] = "lower"
    samples: int = 1

    @property
    def ok(self) -> bool | None:
        """Whether the bar is met; None if there is none."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.better == "lower" else self.value >= self.bar


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(name: str, values_s: Sequence[float], *, p50_ms: float | None = None, p99_ms: float | None = None) -> list[Figure]:
    """Make the figures of a series of durations in seconds: median and 99th percentile in milliseconds, with their bars."""
    return [
        Figure(f"{name}, p50", 1000 * percentile(values_s, 0.50), "ms", p50_ms, samples=len(values_s)),
        Figure(f"{name}, p99", 1000 * percentile(values_s, 0.99), "ms", p99_ms, samples=len(values_s)),
    ]
