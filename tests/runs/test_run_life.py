"""The life of a live run: every step from every state, and what holds after any order of steps."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import InternalError
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.events import ContentDelta, Finished, RunEvent, RunFinished, RunStarted, RunSummary
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.run_life import PHASES, PRESENCES, RECEIPTS, LifeStep, Presence, Receipt, RunLife, RunPhase
from delegate_tool.protocol.context import OnDisconnect
from tests.runs.proposals import ROOT

STATES = list(product(RunPhase, Presence, Receipt))
HAS_ENDED = {RunPhase.ENDED, RunPhase.CLOSED, RunPhase.SHED}
IS_OVER = HAS_ENDED | {RunPhase.ABORTED}


def reachable() -> set[tuple[RunPhase, Presence, Receipt]]:
    """List the states to which some order of steps leads."""
    seen, pending = set[tuple[RunPhase, Presence, Receipt]](), [(RunPhase.ADMITTED, Presence.EXPECTED, Receipt.NOTHING)]
    while pending:
        state = pending.pop()
        if state not in seen:
            seen.add(state)
            pending += [after for step in LifeStep if (after := state_after(state, step)) is not None]
    return seen


def state_after(state: tuple[RunPhase, Presence, Receipt], step: LifeStep) -> tuple[RunPhase, Presence, Receipt] | None:
    """Return the state to which a step leads; None if the step is refused."""
    life = RunLife(*state)
    try:
        life.advance(step)
    except InternalError:
        return None
    return life.phase, life.presence, life.receipt


def test_each_table_has_an_entry_for_each_of_its_states() -> None:
    assert (set(PHASES), set(PRESENCES), set(RECEIPTS)) == (set(RunPhase), set(Presence), set(Receipt))


def test_each_step_belongs_to_exactly_one_table() -> None:
    tables = [{step for steps in table.values() for step in steps} for table in (PHASES, PRESENCES, RECEIPTS)]
    assert sorted(step for steps in tables for step in steps) == sorted(LifeStep)


def test_every_phase_can_be_reached() -> None:
    assert {phase for phase, _, _ in reachable()} == set(RunPhase)


@given(st.sampled_from(STATES), st.sampled_from(LifeStep))
def test_a_step_changes_one_machine_only_and_a_refused_step_changes_nothing(
    state: tuple[RunPhase, Presence, Receipt], step: LifeStep
) -> None:
    life = RunLife(*state)
    try:
        life.advance(step)
    except InternalError:
        assert (life.phase, life.presence, life.receipt) == state
    else:
        after = (life.phase, life.presence, life.receipt)
        assert sum(old is not new for old, new in zip(state, after, strict=True)) <= 1


@given(st.sampled_from(STATES))
def test_a_run_may_always_be_cancelled_and_is_then_ending(state: tuple[RunPhase, Presence, Receipt]) -> None:
    life = RunLife(*state)
    life.advance(LifeStep.CANCEL)
    assert life.is_ending


@given(
    st.sampled_from(sorted(IS_OVER | {RunPhase.FINALIZING})),
    st.sampled_from([LifeStep.BEGIN, LifeStep.PUBLISH, LifeStep.FINALIZE]),
)
def test_a_run_whose_end_is_recorded_never_begins_or_publishes_again(phase: RunPhase, step: LifeStep) -> None:
    with pytest.raises(InternalError):
        RunLife(phase).advance(step)


@given(st.lists(st.sampled_from(LifeStep), max_size=60))
def test_any_order_of_steps_keeps_the_promises(steps: list[LifeStep]) -> None:
    life, taken = RunLife(), list[LifeStep]()
    for step in steps:
        before = RunLife(life.phase, life.presence, life.receipt)
        try:
            life.advance(step)
        except InternalError:
            continue
        taken.append(step)
        assert not (before.has_ended and not life.has_ended)
        assert not (before.is_ending and not life.is_ending)
        assert not (before.phase is RunPhase.ABORTED and life.phase is not RunPhase.ABORTED)
        assert list(Receipt).index(life.receipt) >= list(Receipt).index(before.receipt)
    assert taken.count(LifeStep.BEGIN) <= 1
    assert taken.count(LifeStep.END) <= 1
    assert taken.count(LifeStep.CLOSE) <= 1
    if LifeStep.FINALIZE in taken:
        assert not {LifeStep.BEGIN, LifeStep.PUBLISH} & set(taken[taken.index(LifeStep.FINALIZE) :])
    if LifeStep.CANCEL in taken:
        assert LifeStep.BEGIN not in taken[taken.index(LifeStep.CANCEL) :]
    assert life.has_ended == (LifeStep.END in taken)
    assert (life.phase in {RunPhase.CLOSED, RunPhase.SHED, RunPhase.ABORTED}) == (LifeStep.CLOSE in taken)
    assert life.phase is not RunPhase.ABORTED or LifeStep.END not in taken
    assert (life.phase is RunPhase.SHED) == (LifeStep.SHED in taken)
    assert life.receipt is not Receipt.WHOLE or life.has_ended
    assert (life.presence is Presence.EXPECTED) == (not {LifeStep.ATTACH, LifeStep.LEAVE} & set(taken))


@pytest.mark.parametrize("late", [RunStarted(ROOT), ContentDelta("late"), RunFinished(Finished(""), RunSummary(ROOT))])
def test_a_live_run_publishes_nothing_after_its_end(late: RunEvent) -> None:
    live_runs, live = LiveRuns(), LiveRun(ROOT, OnDisconnect.CANCEL, lambda _: None, SystemClock())
    live_runs.add(live)
    live.publish(RunStarted(ROOT))
    live.begin_finalization()
    end = RunFinished(Finished(""), RunSummary(ROOT))
    live.publish(end)
    live_runs.remove(live)
    with pytest.raises(InternalError):
        live.publish(late)
    assert (live.events[1:], live.closed.is_set(), live.cancel(), live.cancelled.is_set()) == ([end], True, False, False)
