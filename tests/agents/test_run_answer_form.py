"""Answers in a form that the request asks for."""

import pytest

from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, RunnerEvent, TurnFinished
from a2a_gateway.runs.messages import AnswerFormat
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import Driver, RecordingMeter, script, sent, text_of, think, user
from tests.agents.schemas import doubling

pytestmark = pytest.mark.anyio

CITY = AnswerFormat("json_schema", "city", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})


async def test_an_answer_of_the_wanted_form_is_told_without_its_fence(driver: Driver, llm: ScriptedLLM) -> None:
    fenced = '```json\n{"name": "Oslo"}\n```'
    ran = await driver.run(script(think(content="Let me see."), {"content": fenced}), answer_format=CITY)
    assert ran.outcome == Finished('{"name": "Oslo"}')
    assert ran.content == '{"name": "Oslo"}'
    assert '"required": ["name"]' in str(sent(llm, 0)["messages"][0])


async def test_an_answer_without_the_form_is_asked_for_once_more_and_then_fails(driver: Driver, llm: ScriptedLLM) -> None:
    ran = await driver.run(script({"content": "Oslo"}), answer_format=CITY)
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.content) == ("response_format_violated", "")
    assert [len(request.body["messages"]) for request in llm.traffic.requests] == [2, 4]
    assert "not JSON" in text_of(sent(llm)["messages"][-1])


@pytest.mark.parametrize(("said", "told"), [('{"name": "Oslo"}', '{"name": "Oslo"}'), ('{"name": "Os', "")])
async def test_the_last_call_of_a_budget_counts_only_with_an_answer_of_the_wanted_form(
    driver: Driver, said: str, told: str
) -> None:
    last = {"budget_micro_usd": 1_000_000, "left_micro_usd": 9_000, "max_output_tokens": 300, "last": True}
    ran = await driver.run(script({"content": said}), meter=RecordingMeter(grants=[last]), answer_format=CITY)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.content, ran.code) == (told, told, "budget_exceeded")


async def test_a_repaired_answer_is_the_answer(driver: Driver, llm: ScriptedLLM) -> None:
    replies = iter(['{"city": "Oslo"}', '{"name": "Oslo"}'])
    llm.direct = lambda _: Step(content=next(replies))
    ran = await driver.run(user("Which city?"), answer_format=CITY)
    assert ran.outcome == Finished('{"name": "Oslo"}')
    assert len(ran.meter.settled) == 2


@pytest.mark.parametrize("stop", ["cancel", "deadline"])
async def test_a_check_without_end_is_ended_with_its_run(driver: Driver, stop: str) -> None:
    async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
        if stop == "cancel" and isinstance(event, TurnFinished):
            await driver.runner.cancel(run.record.id)

    endless = AnswerFormat("json_schema", schema=doubling())
    # Less than the checker would take, and the agent may take as much of it as it likes.
    timeout_s = 30.0 if stop == "cancel" else 0.5
    ran = await driver.run(script({"content": "{}"}), answer_format=endless, watch=cancel, timeout_s=timeout_s)
    if stop == "cancel":
        assert isinstance(ran.outcome, Cancelled)
    else:
        assert (type(ran.outcome), ran.code) == (Limited, "deadline_exceeded")
    assert ran.content == ""


async def test_a_check_without_end_fails_its_run_as_the_caller_s_error(driver: Driver) -> None:
    ran = await driver.run(script({"content": "{}"}), answer_format=AnswerFormat("json_schema", schema=doubling()))
    assert (type(ran.outcome), ran.code) == (Failed, "unsupported_parameter")
