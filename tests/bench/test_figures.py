"""A bar is on the ratio to the floor where there is one, and on the value where there is none."""

import pytest

from bench.figures import Figure, Floor, FloorSeries, spread


@pytest.mark.parametrize("slowness", [1, 4])
def test_the_same_ratio_meets_the_bar_on_a_slow_machine_too(slowness: int) -> None:
    floor = Floor("bare turn", 14.0 * slowness)
    met, missed = (Figure("run", value * slowness, "ms", 1.2, floor) for value in (16.0, 17.0))
    assert (met.ok, missed.ok) == (True, False)


def test_a_figure_without_a_floor_is_held_to_its_bar_in_its_own_unit() -> None:
    assert [Figure("memory", value, "MB", 350).ok for value in (350, 351)] == [True, False]
    assert Figure("for information", 1.0, "ms").ok is None


def test_a_throughput_has_to_reach_its_share_of_what_is_possible() -> None:
    possible = Floor("bare turns, one core", 70.0)
    assert [Figure("load", value, "runs/s", 0.75, possible, "higher").ok for value in (56.0, 50.0)] == [True, False]


def test_a_series_is_shown_by_median_and_99th_percentile_in_multiples_of_its_floor() -> None:
    median, tail = spread("run", [0.02] * 98 + [0.2, 0.2], FloorSeries("turn", [0.01] * 98 + [0.05, 0.05]), p50=2, p99=2)
    assert (median.name, median.ratio, median.ok) == ("run, p50", 2.0, True)
    assert (tail.name, tail.ratio, tail.ok) == ("run, p99", 4.0, False)
    assert Floor("turn", 10.0).times(2) == Floor("2 × turn", 20.0)
