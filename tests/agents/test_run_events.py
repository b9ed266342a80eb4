"""What a run tells while it goes on: its words, tools and costs, in order."""

from pathlib import Path

import pytest

from a2a_gateway.runs.events import (
    ContentDelta,
    Finished,
    ReasoningDelta,
    RunEnded,
    RunnerEvent,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.context import Narration
from tests.agents.driver import COST, USAGE, USED, Driver, a_recipe, an_llm, driving, script, think

pytestmark = pytest.mark.anyio


async def test_a_run_tells_its_words_its_tools_its_costs_and_its_outcome_in_order(driver: Driver) -> None:
    ran = await driver.run(script(think(content="Let me see.", usage=USAGE), {"finish": "It is 42.", "usage": USAGE}))
    *events, ended = ran.events
    calls = [event.call_id for event in events if isinstance(event, ToolStarted)]
    texts = [event for event in events if not isinstance(event, ContentDelta)]
    assert texts == [
        TurnFinished(1, USED, COST),
        ToolStarted("think", calls[0], KeptText('{"thought": "hm"}')),
        ToolFinished("think", calls[0]),
        TurnFinished(2, USED, COST),
    ]
    assert isinstance(ended, RunEnded)
    assert ended.outcome == Finished("Let me see.\n\nIt is 42.")
    assert ran.content == "Let me see.\n\nIt is 42."
    assert ran.meter.settled == [(USED, COST), (USED, COST)]


@pytest.mark.parametrize(
    ("narration", "expected"),
    [(Narration.REASONING, [ReasoningDelta("Let me see."), ContentDelta("42.")]), (Narration.NONE, [ContentDelta("42.")])],
)
async def test_narration_goes_where_it_was_asked_to(driver: Driver, narration: Narration, expected: list[RunnerEvent]) -> None:
    ran = await driver.run(script(think(content="Let me see."), {"content": "42."}), narration=narration)
    assert [event for event in ran.events if isinstance(event, ContentDelta | ReasoningDelta)] == expected
    assert ran.outcome == Finished("42.")


async def test_the_first_words_arrive_while_the_llm_still_writes(driver: Driver, llm: ScriptedLLM) -> None:
    answered: list[int] = []

    async def watch(_: AdmittedRun, event: RunnerEvent) -> None:
        if isinstance(event, ContentDelta) and not answered:
            answered.append(llm.traffic.in_flight)
            llm.open_gate("rest")

    ran = await driver.run(script({"content": "one two three", "gate": {"name": "rest", "after": 3}}), watch=watch)
    assert answered == [1]
    assert ran.outcome == Finished("one two three")


async def test_an_llm_that_does_not_stream_says_the_same(llm: ScriptedLLM, tmp_path: Path) -> None:
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url, stream=False))) as driver:
        ran = await driver.run(script(think(content="Let me see.", usage=USAGE), {"finish": "42.", "usage": USAGE}))
    assert ran.outcome == Finished("Let me see.\n\n42.")
    assert ran.content == "Let me see.\n\n42."
    assert ran.meter.settled == [(USED, COST), (USED, COST)]
    assert not any(request.body.get("stream") for request in llm.traffic.requests)


async def test_reasoning_of_the_llm_is_told_as_reasoning(driver: Driver) -> None:
    ran = await driver.run(script({"reasoning": "hm", "content": "42."}))
    assert [event for event in ran.events if isinstance(event, ReasoningDelta)] == [ReasoningDelta("hm")]
    assert ran.outcome == Finished("42.")
