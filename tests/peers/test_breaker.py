"""The circuit breaker of a peer."""

from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.peers.breaker import LONGEST_PAUSE_S, PAUSE_S, TOLERATED, Breaker


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def open_breaker() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(TOLERATED):
        assert breaker.wait_s == 0
        breaker.begin()
        breaker.record_failure()
    return breaker, clock


def test_it_opens_after_failures_in_a_row() -> None:
    breaker, clock = open_breaker()
    assert breaker.wait_s == PAUSE_S
    clock.at += PAUSE_S - 1
    assert breaker.wait_s == 1


def test_an_answer_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(Clock())
    for _ in range(3 * TOLERATED):
        breaker.record_failure()
        breaker.record_success()
    assert breaker.wait_s == 0


def test_after_its_pause_one_request_goes_as_a_trial_and_the_others_wait_for_it() -> None:
    breaker, clock = open_breaker()
    clock.at += PAUSE_S
    assert breaker.wait_s == 0
    breaker.begin()
    assert breaker.wait_s == PAUSE_S
    breaker.record_success()
    assert breaker.wait_s == 0


def test_a_trial_that_fails_makes_the_pause_longer() -> None:
    breaker, clock = open_breaker()
    clock.at += PAUSE_S
    breaker.begin()
    breaker.record_failure()
    assert breaker.wait_s == 2 * PAUSE_S


def test_a_trial_of_which_nothing_is_heard_blocks_nobody_for_good() -> None:
    breaker, clock = open_breaker()
    clock.at += PAUSE_S
    breaker.begin()
    clock.at += PAUSE_S
    assert breaker.wait_s == 0


@given(st.lists(st.sampled_from(["begin", "record_failure", "record_success", "wait"])))
def test_whatever_happens_the_pause_has_an_end_and_an_answer_ends_it(steps: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for step in steps:
        if step == "wait":
            clock.at += PAUSE_S
        else:
            getattr(breaker, step)()
        assert 0 <= breaker.wait_s <= LONGEST_PAUSE_S
        assert step != "record_success" or breaker.wait_s == 0
