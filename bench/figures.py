"""Measured values, the floor below each, and the bar that each must meet. Plain data.

A time that is good on one machine is bad on another. So most figures have a *floor*: what the same work takes without the
gateway, measured in the same run. Their bar is on the ratio to the floor. Figures that do not depend on the machine's speed, such
as memory and counts, have no floor, and a bar in their own unit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Floor:
    """The value of the same work without the gateway, in the unit of the figure."""

    name: str
    value: float

    def times(self, count: int) -> "Floor":
        """Return the floor of work that consists of `count` pieces of this work."""
        return Floor(f"{count} × {self.name}", count * self.value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. Without a `bar` it is only information.

    Attributes:
        bar: of the ratio to the floor, where there is one, else of the value.
        better: whether a lower or a higher value is better.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    floor: Floor | None = None
    better: Literal["lower", "higher"] = "lower"
    samples: int = 1

    @property
    def ratio(self) -> float | None:
        """The value in multiples of its floor; None without a floor."""
        return None if self.floor is None else self.value / self.floor.value

    @property
    def ok(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.bar is None:
            return None
        held = self.value if self.ratio is None else self.ratio
        return held <= self.bar if self.better == "lower" else held >= self.bar


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median_ms(values_s: Sequence[float]) -> float:
    """Return the median of durations in seconds, in milliseconds."""
    return 1000 * percentile(values_s, 0.5)


@dataclass(frozen=True, slots=True)
class FloorSeries:
    """Durations of the same work without the gateway, in seconds."""

    name: str
    values_s: Sequence[float]

    def at(self, share: float) -> Floor:
        """Return the floor of a percentile, in milliseconds."""
        return Floor(f"{self.name}, p{100 * share:g}", 1000 * percentile(self.values_s, share))


def spread(
    name: str, values_s: Sequence[float], floor: FloorSeries, *, p50: float | None = None, p99: float | None = None
) -> list[Figure]:
    """Make the figures of a series of durations in seconds: median and 99th percentile in milliseconds, each above its floor."""
    return [
        Figure(f"{name}, p{100 * share:g}", 1000 * percentile(values_s, share), "ms", bar, floor.at(share), samples=len(values_s))
        for share, bar in ((0.5, p50), (0.99, p99))
    ]
