"""A run that is stopped from outside."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from a2a_gateway.runs.events import Cancelled, ContentDelta, RunEnded, RunnerEvent, ToolStarted
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import Driver, RecordingMeter, script, user

pytestmark = pytest.mark.anyio


async def test_cancel_ends_the_run_and_its_llm_call_which_is_charged_for_what_it_streamed(
    driver: Driver, llm: ScriptedLLM
) -> None:
    async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
        if isinstance(event, ContentDelta):
            await driver.runner.cancel(run.record.id)

    ran = await driver.run(script({"content": "one two", "gate": {"name": "never", "after": 2}}), watch=cancel)
    await llm.wait_until(lambda traffic: traffic.in_flight == 0)
    assert ran.outcome == Cancelled("one ")
    assert llm.traffic.disconnects == 1
    [(usage, cost)] = ran.meter.settled
    assert usage.prompt > 500
    assert usage.completion == 1
    assert cost == usage.prompt + 2 * usage.completion


async def test_closing_the_iterator_stops_the_llm_call_and_books_it(driver: Driver, llm: ScriptedLLM) -> None:
    meter = RecordingMeter()
    run = driver.admitted(script({"content": "one two", "gate": {"name": "never", "after": 2}}))
    async with aclosing(driver.runner.run(run, meter)) as events:
        async for event in events:
            assert event == ContentDelta("one ")
            break
    assert len(meter.settled) == 1
    await llm.wait_until(lambda traffic: traffic.disconnects == 1)


async def test_cancelling_the_task_that_iterates_stops_the_llm_call_and_books_it(driver: Driver, llm: ScriptedLLM) -> None:
    meter = RecordingMeter()
    task = asyncio.create_task(driver.run(script({"hang": True}), meter=meter))
    await llm.wait_until(lambda traffic: traffic.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(meter.settled) == 1
    await llm.wait_until(lambda traffic: traffic.disconnects == 1)


async def test_cancel_stops_a_tool(driver: Driver) -> None:
    marker = Path(driver.workspace_dir) / "started"

    async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
        if isinstance(event, ToolStarted):
            await driver.runner.cancel(run.record.id)

    command = {"command": f"touch {marker}; sleep 60; touch {marker}.late"}
    ran = await driver.run(script({"tool_calls": [{"name": "terminal", "arguments": command}]}), watch=cancel)
    assert ran.outcome == Cancelled("")
    assert not marker.with_suffix(".late").exists()


async def test_a_run_cancelled_before_it_began_calls_no_llm(driver: Driver, llm: ScriptedLLM) -> None:
    run = driver.admitted(user("hi"))
    events = driver.runner.run(run, RecordingMeter())
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await driver.runner.cancel(run.record.id)
    ended = await first
    await events.aclose()
    assert isinstance(ended, RunEnded)
    assert ended.outcome == Cancelled("")
    assert llm.traffic.received == 0


async def test_an_unknown_run_can_be_cancelled_without_harm(driver: Driver) -> None:
    await driver.runner.cancel(driver.admitted(user("hi")).record.id)
