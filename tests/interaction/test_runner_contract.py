"""What every runner promises to the core, tried on each there is: `runners.RUNNERS` lists them."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.errors import DeadlineExceeded, GatewayError
from a2a_gateway.runs.events import Cancelled, ContentDelta, Failed, Finished, Limited, RunEnded, RunnerEvent
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import AdmittedRun, ConversationId, KeyId, RunId, RunRecord, RunState, TreeId
from delegate_tool.protocol.context import Narration
from tests.agents.driver import RecordingMeter
from tests.interaction.runners import ANSWER, BEGINNING, RUNNERS, RunnerUnderTest, Task, messages

pytestmark = pytest.mark.anyio


@pytest.fixture(params=list(RUNNERS))
async def tried(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunnerUnderTest]:
    async with RUNNERS[request.param](tmp_path) as opened:
        yield opened


def admit(tried: RunnerUnderTest, task: Task, *, timeout_s: float = 30.0) -> AdmittedRun:
    """Admit a run, and send it through a pickle: a runner may be in another process."""
    record = RunRecord(
        id=RunId(f"run-{task.value}"),
        tree_id=TreeId(f"run-{task.value}"),
        parent_id=None,
        key_id=KeyId("key"),
        agent="openhands_scripted",
        depth=0,
        state=RunState.RUNNING,
        limits=Limits(),
        deadline_at=0.0,
        task_hash="",
        conversation_id=ConversationId("8f14e45f-ceea-467f-9d8c-5d9bb2b1a1f0"),
        created_at=0.0,
    )
    run = AdmittedRun(record, "scripted", messages(task), Sampling(), None, Narration.LIVE, tried.workspace_dir, timeout_s)
    return pickle_round_trip(tried.addressed(run))


def pickle_round_trip[T](value: T) -> T:
    copy: Any = pickle.loads(pickle.dumps(value))
    assert type(copy) is type(value)
    return copy


async def ran(tried: RunnerUnderTest, run: AdmittedRun, meter: RecordingMeter) -> list[RunnerEvent]:
    """Run to the end; each event goes through a pickle."""
    return [pickle_round_trip(event) async for event in tried.runner.run(run, meter)]


def text_of(events: list[RunnerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ContentDelta))


def end_of(events: list[RunnerEvent]) -> RunEnded:
    """Return the last event, which must be the only one of its kind."""
    [ended] = [event for event in events if isinstance(event, RunEnded)]
    assert events[-1] is ended
    return ended


async def begin(tried: RunnerUnderTest, run: AdmittedRun, meter: RecordingMeter) -> asyncio.Task[list[RunnerEvent]]:
    """Begin a run that hangs, and wait until it has written something and holds money."""
    begun, events = asyncio.Event(), list[RunnerEvent]()

    async def follow() -> list[RunnerEvent]:
        async with aclosing(tried.runner.run(run, meter)) as stream:
            async for event in stream:
                events.append(event)
                begun.set()
        return events

    task = asyncio.create_task(follow())
    await begun.wait()
    return task


async def test_an_answer_is_told_in_pieces_and_ends_with_the_whole(tried: RunnerUnderTest) -> None:
    meter = RecordingMeter()
    events = await ran(tried, admit(tried, Task.ANSWER), meter)
    assert end_of(events).outcome == Finished(ANSWER)
    assert text_of(events) == ANSWER
    assert len(meter.settled) == 1


async def test_a_failure_of_the_llm_is_an_outcome_with_its_code(tried: RunnerUnderTest) -> None:
    meter = RecordingMeter()
    outcome = end_of(await ran(tried, admit(tried, Task.FAIL), meter)).outcome
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, GatewayError)
    assert outcome.error.code == "llm_bad_request" or outcome.error.code.startswith("peer_")
    assert len(meter.settled) == 1


async def test_a_cancelled_run_ends_with_what_it_has_written(tried: RunnerUnderTest) -> None:
    meter, run = RecordingMeter(), admit(tried, Task.HANG)
    running = await begin(tried, run, meter)
    await tried.runner.cancel(run.record.id)
    outcome = end_of(await running).outcome
    assert isinstance(outcome, Cancelled)
    assert outcome.text in ("", BEGINNING)
    assert len(meter.settled) == len(meter.held)


async def test_to_cancel_a_run_that_it_does_not_have_is_no_error(tried: RunnerUnderTest) -> None:
    await tried.runner.cancel(RunId("unknown"))
    run = admit(tried, Task.ANSWER)
    await ran(tried, run, RecordingMeter())
    await tried.runner.cancel(run.record.id)


async def test_closing_the_iterator_early_settles_what_was_set_aside(tried: RunnerUnderTest) -> None:
    meter = RecordingMeter()
    async with aclosing(tried.runner.run(admit(tried, Task.HANG), meter)) as events:
        async for _ in events:
            break
    assert len(meter.settled) == len(meter.held)
    assert end_of(await ran(tried, admit(tried, Task.ANSWER), RecordingMeter())).outcome == Finished(ANSWER)


async def test_cancelling_the_task_that_iterates_settles_what_was_set_aside(tried: RunnerUnderTest) -> None:
    meter = RecordingMeter()
    running = await begin(tried, admit(tried, Task.HANG), meter)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(meter.settled) == len(meter.held)


async def test_a_run_ends_with_its_time_and_keeps_what_it_has_written(tried: RunnerUnderTest) -> None:
    meter = RecordingMeter()
    events = await ran(tried, replace(admit(tried, Task.HANG), timeout_s=1.0), meter)
    outcome = end_of(events).outcome
    assert isinstance(outcome, Limited)
    assert (outcome.reason, outcome.text, type(outcome.error)) == ("deadline_exceeded", BEGINNING, DeadlineExceeded)
    assert text_of(events) == BEGINNING
    assert len(meter.settled) == len(meter.held)
