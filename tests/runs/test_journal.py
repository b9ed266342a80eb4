"""What is kept of the events of a run: all of them as they were, or the first ones and how many are missing."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import BudgetExceeded, LLMUnavailable
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    EventsOmitted,
    Failed,
    Finished,
    Limited,
    OptionsIgnored,
    Outcome,
    ReasoningDelta,
    RunEnded,
    RunEvent,
    RunFinished,
    RunStarted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.journal import keep_task
from a2a_gateway.runs.journal_codec import KeptEnd, KeptEvents, decode_end, decode_events, encode_events
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.testing.scripted_runner import RunStep
from tests.runs.service_bench import Bench, bench_of, end_of, follow
from tests.support.records import make_run_record

pytestmark = pytest.mark.anyio

RECORD = make_run_record()
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
EVENTS = st.lists(
    st.builds(ContentDelta, ANY_TEXT)
    | st.builds(ReasoningDelta, ANY_TEXT)
    | st.builds(ToolStarted, ANY_TEXT, ANY_TEXT, st.builds(KeptText, ANY_TEXT, st.booleans()))
    | st.builds(ToolFinished, ANY_TEXT, ANY_TEXT, st.booleans(), st.none() | ANY_TEXT)
    | st.builds(TurnFinished, st.integers(1), st.builds(TokenUsage, st.integers(0), st.integers(0)), st.none() | st.integers(0))
    | st.builds(OptionsIgnored, st.lists(ANY_TEXT).map(tuple))
)


def encode_and_decode(events: Sequence[RunEvent], outcome: Outcome, max_bytes: int = 1_000_000) -> KeptEvents:
    happened_at = [1_700_000_000.001 + round(0.013 * number, 3) for number in range(len(events))]
    encoded = encode_events(events, happened_at, outcome, max_bytes)
    kept = decode_events(encoded, RECORD)
    assert kept is not None
    if not isinstance(outcome, Failed | Limited):  # errors are equal to themselves alone
        assert decode_end(encoded) == kept.end
    assert kept.happened_at == tuple(round(at, 3) for at in happened_at[: len(kept.events)])
    return kept


def content_of(events: Sequence[RunEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ContentDelta))


@given(EVENTS)
def test_events_are_decoded_as_they_were_encoded(events: list[RunEvent]) -> None:
    events = [RunStarted(RECORD), *events]
    kept = encode_and_decode(events, Finished(content_of(events)))
    assert kept == KeptEvents(tuple(events), kept.happened_at, 0, KeptEnd(Finished(content_of(events)), is_truncated=False))


@given(EVENTS, st.integers(1, 2_000))
def test_what_does_not_fit_is_counted_and_the_first_events_stay(events: list[RunEvent], max_bytes: int) -> None:
    events = [RunStarted(RECORD), *events]
    kept = encode_and_decode(events, Finished(content_of(events)), max_bytes)
    assert kept.events == tuple(events[: len(kept.events)])
    assert len(kept.events) + kept.omitted == len(events)
    assert kept.events[:1] == (RunStarted(RECORD),)


@pytest.mark.parametrize("character", ["x", "\x00", "\ud800", "\N{FACE WITH TEARS OF JOY}", '"'])
def test_a_long_run_stays_within_its_bound_and_its_answer_is_cut(character: str) -> None:
    deltas = [ContentDelta(character * 4) for _ in range(50_000)]
    events: list[RunEvent] = [
        RunStarted(RECORD),
        ToolStarted("terminal", "c1", KeptText("y" * 16_384, is_truncated=True)),
        *deltas,
    ]
    text = encode_events(events, [0.001] * len(events), Finished(character * 200_000), 100_000)
    assert len(text.encode("utf-8", "surrogatepass")) < (600_000 if character == "\x00" else 200_000)  # six bytes each in JSON
    kept = decode_events(text, RECORD)
    assert kept is not None
    assert (kept.end.is_truncated, kept.omitted > 40_000) == (True, True)
    assert 10_000 < len(kept.end.outcome.text) <= 50_000


@pytest.mark.parametrize(
    "outcome",
    [
        Limited("half", "budget_exceeded", BudgetExceeded("Spent.", details={"budget_usd": "1"})),
        Failed(LLMUnavailable("Down.", details={"provider_status": 503}), "half"),
        Cancelled("half", "Stopped."),
        Failed(LLMUnavailable("Down.")),
    ],
)
def test_every_outcome_is_kept_with_its_text(outcome: Outcome) -> None:
    ways: tuple[Sequence[RunEvent], ...] = ((RunStarted(RECORD), ContentDelta("half")), (RunStarted(RECORD),), ())
    for events in ways:
        kept = encode_and_decode(events, outcome)
        assert (type(kept.end.outcome), kept.end.outcome.text, kept.end.is_truncated) == (type(outcome), outcome.text, False)
        if isinstance(kept.end.outcome, Failed) and isinstance(outcome, Failed):
            assert (kept.end.outcome.error.code, kept.end.outcome.error.details) == (outcome.error.code, outcome.error.details)


def test_events_of_a_later_version_are_as_good_as_none() -> None:
    assert decode_events('{"version": 2}', RECORD) is None
    assert decode_end('{"version": 2}') is None


@pytest.mark.parametrize("shift", range(0, 3_000, 500))
def test_no_part_of_a_secret_is_kept_of_a_task_that_is_cut(shift: int) -> None:
    secret = "sk-" + "0123456789" * 300
    kept = keep_task("x" * shift + secret * 20, 16 * 1024, lambda text: text.replace(secret, "***"))
    assert kept is not None
    assert (kept.text.strip("x*"), kept.is_truncated) == ("", True)


WORKS: tuple[RunStep, ...] = (
    ReasoningDelta("hm"),
    ToolStarted("terminal", "c1", KeptText('{"command": "ls"}')),
    ToolFinished("terminal", "c1", is_error=True),
    *(ContentDelta(f"word{number} ") for number in range(300)),
    RunEnded(Finished("".join(f"word{number} " for number in range(300)))),
)


def numbered_events(live: LiveRun) -> list[tuple[int, float, RunEvent | Outcome]]:
    """Return the events of a run with number and time; its records differ, because the first has no sums yet."""
    alike = [
        RunStarted(RECORD) if isinstance(event, RunStarted) else event.outcome if isinstance(event, RunFinished) else event
        for event in live.events
    ]
    numbers = [live.number_of(position) for position in range(len(live.events))]
    return list(zip(numbers, live.happened_at, alike, strict=True))


async def run_to_the_end(bench: Bench) -> LiveRun:
    """Run to the end, whose client receives it, so that it is not kept in memory."""
    live = await bench.start()
    await follow(live)
    bench.service.deduplication.note_received(live)
    return live


async def test_an_ended_run_is_replayed_as_it_was_published(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: WORKS) as bench:
        live = await run_to_the_end(bench)
        again = await bench.service.ended_runs.follow(live.record)
        assert again is not live
        assert numbered_events(again) == numbered_events(live)
        assert end_of(again.events).summary == end_of(live.events).summary


async def test_events_that_are_left_out_leave_a_gap_in_the_numbers(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: WORKS, journal_bytes=2_000) as bench:
        live = await run_to_the_end(bench)
        again = await bench.service.ended_runs.follow(live.record)
        *first, (gap, _, omitted), (last, _, end) = numbered_events(again)
        assert first == numbered_events(live)[: len(first)]
        assert omitted == EventsOmitted(gap - len(first) + 1)
        assert (last, gap) == (len(live.events) - 1, len(live.events) - 2)
        assert isinstance(end, Finished)
        assert end_of(again.events).is_truncated
        where = len(again.events)
        positions = [again.position_of(number) for number in (0, len(first), gap, last, last + 1, 9_999)]
        assert positions == [0, where - 2, where - 2, where - 1, where, where]


async def test_a_run_that_a_crash_cut_short_has_its_task_and_ends_as_lost(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: WORKS) as bench:
        asked = bench.request("the task", conversation_id="0b5dd1f0-516f-4f0e-8d53-1c8f7f3f9b02")  # so it has to wait
        proposal = bench.service._opening.take_in(*asked).proposal  # a run without a task that leads it
        record = await bench.store.ledger.open_run(proposal)
        await bench.store.ledger.mark_lost()
        journal = await bench.store.journals.get(record.id)
        assert journal is not None
        assert (journal.task, journal.events) == (KeptText("the task"), None)
        lost = await bench.service.ended_runs.follow(record)
        assert (record.started_at, lost.happened_at[0]) == (None, round(record.created_at, 3))
        assert lost.events[lost.position_of(50)] is lost.events[-1]  # for a client that had read more before the crash
        end = end_of(lost.events)
        assert isinstance(end.outcome, Failed)
        assert (end.outcome.error.code, end.summary.record.state) == ("run_lost", "lost")


async def test_a_run_that_failed_before_it_began_has_its_error_alone(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: WORKS) as bench:
        (tmp_path / "workspaces").write_text("no directory can be made here")
        live = await run_to_the_end(bench)
        again = await bench.service.ended_runs.follow(live.record)
        assert numbered_events(again)[0][0] == 0
        assert [type(event) for event in again.events] == [type(event) for event in live.events] == [RunFinished]


async def test_a_run_of_many_events_is_replayed_whole(tmp_path: Path) -> None:
    deltas = [ContentDelta(f"{number} ") for number in range(20_000)]
    works: tuple[RunStep, ...] = (*deltas, RunEnded(Finished(content_of(deltas))))
    async with bench_of(tmp_path, lambda run: works) as bench:
        live = await run_to_the_end(bench)
        again = await bench.service.ended_runs.follow(live.record)
        assert numbered_events(again) == numbered_events(live)
