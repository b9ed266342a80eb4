"""The metered LLM beyond an agent's chat turns: the Responses endpoint, side calls, the SDK's own bookkeeping."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from openhands.sdk import LLM, Message, TextContent

from a2a_gateway.agents.llm.metered_llm import MeteredLLM, build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.runs.events import Cancelled, ContentDelta, Finished, Limited, ReasoningDelta, RunnerEvent, TurnFinished
from a2a_gateway.runs.messages import AssistantMessage, Sampling, TextPart
from a2a_gateway.runs.model import AdmittedRun, TokenUsage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import INPUT_USD, OUTPUT_USD, RecordingMeter, a_recipe, an_llm, driving, script, think, user
from tests.agents.llm.responses_server import ResponsesServer, function_call_events

pytestmark = pytest.mark.anyio

FINISH = function_call_events("finish", {"message": "It is 42."})


async def test_the_responses_endpoint_streams_the_finish_message_and_is_metered(tmp_path: Path) -> None:
    async with (
        ResponsesServer(FINISH).serving() as url,
        driving(tmp_path, a_recipe(an_llm(url, model="openai/gpt-5"))) as driver,
    ):
        ran = await driver.run(user("hi"))
    used = TokenUsage(1000, 100, cached=400, reasoning=30)
    assert ran.events[:-1] == [ReasoningDelta("Hm."), ContentDelta("It "), ContentDelta("is 42."), TurnFinished(1, used, 1200)]
    assert ran.outcome == Finished("It is 42.")
    assert ran.meter.settled == [(used, 1200)]


@pytest.mark.parametrize(("reason", "code"), [("max_output_tokens", "run_failed"), ("content_filter", "content_filter")])
async def test_a_cut_off_answer_of_the_responses_endpoint_is_paid_once(tmp_path: Path, reason: str, code: str) -> None:
    response = {**FINISH[-1]["response"], "status": "incomplete", "incomplete_details": {"reason": reason}}
    cut_off = [*FINISH[:-1], {"type": "response.incomplete", "response": response}]
    async with (
        ResponsesServer(cut_off).serving() as url,
        driving(tmp_path, a_recipe(an_llm(url, model="openai/gpt-5", num_retries=3))) as driver,
    ):
        ran = await driver.run(user("hi"))
    assert (ran.code, ran.outcome.text, ran.content) == (code, "It is 42.", "It is 42.")
    assert isinstance(ran.outcome, Limited) == (reason == "max_output_tokens")
    assert ran.meter.settled == [(TokenUsage(1000, 100, cached=400, reasoning=30), 1200)]


async def test_a_cancelled_call_of_the_responses_endpoint_is_charged_for_what_it_streamed(tmp_path: Path) -> None:
    async with (
        ResponsesServer(FINISH[:5], hangs=True).serving() as url,
        driving(tmp_path, a_recipe(an_llm(url, model="openai/gpt-5"))) as driver,
    ):

        async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
            if event == ContentDelta("is 42."):
                await driver.runner.cancel(run.record.id)

        ran = await driver.run(user("hi"), watch=cancel)
    assert ran.outcome == Cancelled("It is 42.")
    [(usage, cost)] = ran.meter.settled
    assert usage.prompt > 500
    assert usage.completion > 5
    assert cost == usage.prompt + 2 * usage.completion


async def test_stop_sequences_are_refused_where_the_endpoint_knows_none(tmp_path: Path) -> None:
    async with driving(tmp_path, a_recipe(an_llm("http://127.0.0.1:9/v1", model="openai/gpt-5"))) as driver:
        ran = await driver.run(user("hi"), sampling=Sampling(stop=("END",)))
    assert ran.code == "unsupported_parameter"


async def test_summarising_a_long_history_is_metered_but_is_no_turn_and_tells_nothing(tmp_path: Path) -> None:
    async with ScriptedLLM() as llm:
        template = an_llm(llm.base_url)
        condenser = template.model_copy(update={"usage_id": "condenser", "stream": False})
        recipe = replace(a_recipe(template), condenser_llm=condenser, condenser_max_size=12)
        async with driving(tmp_path, recipe) as driver:
            past = [message for n in range(10) for message in (user(f"q{n}"), AssistantMessage((TextPart(f"a{n}"),)))]
            ran = await driver.run(*past, user("now"))
    assert llm.traffic.received == len(ran.meter.settled) == 2
    assert [event.turn for event in ran.events if isinstance(event, TurnFinished)] == [1]
    assert ran.outcome == Finished("ok")


async def test_a_side_call_from_a_tool_s_thread_is_metered() -> None:
    async with ScriptedLLM() as llm:
        meter = RecordingMeter()
        account = RunAccount(meter, max_turns=1, emit=lambda _: None)
        side = build_metered_llm(an_llm(llm.base_url), account, Prices("openai/scripted", INPUT_USD, OUTPUT_USD))
        question = [Message(role="user", content=[TextContent(text="hi")])]
        response = await asyncio.to_thread(side.completion, question)
    assert [part.text for part in response.message.content if isinstance(part, TextContent)] == ["ok"]
    [(usage, cost)] = meter.settled
    assert cost == usage.prompt + 2 * usage.completion > 0


async def test_a_copy_books_to_the_same_account() -> None:
    async with ScriptedLLM() as llm:
        meter = RecordingMeter()
        account = RunAccount(meter, max_turns=1, emit=lambda _: None)
        prices = Prices("openai/scripted", INPUT_USD, OUTPUT_USD)
        copy = build_metered_llm(an_llm(llm.base_url), account, prices).model_copy(update={"temperature": 0.5})
        await copy.acompletion([Message(role="user", content=[TextContent(text="hi")])])
    assert len(meter.settled) == 1


async def test_the_sdk_s_own_metrics_have_our_prices() -> None:
    async with ScriptedLLM() as llm:
        meter = RecordingMeter()
        account = RunAccount(meter, max_turns=1, emit=lambda _: None)
        own = build_metered_llm(an_llm(llm.base_url), account, Prices("openai/scripted", INPUT_USD, OUTPUT_USD))
        await own.acompletion([Message(role="user", content=[TextContent(text="hi")])])
    [(usage, cost)] = meter.settled
    assert cost is not None
    assert own.metrics.accumulated_cost == pytest.approx(cost / 1e6)
    assert own.metrics.accumulated_token_usage is not None
    assert own.metrics.accumulated_token_usage.prompt_tokens == usage.prompt


async def test_a_run_s_metrics_do_not_reach_its_template(tmp_path: Path) -> None:
    async with ScriptedLLM() as llm:
        template = an_llm(llm.base_url)
        async with driving(tmp_path, a_recipe(template)) as driver:
            await driver.run(script(think(), {"content": "ok"}))
    assert template.metrics.accumulated_cost == 0


def test_a_metered_llm_has_the_facts_of_its_template_or_of_another_model() -> None:
    async def make() -> list[MeteredLLM]:
        account = RunAccount(RecordingMeter(), max_turns=1, emit=lambda _: None)
        own = build_metered_llm(
            an_llm("http://127.0.0.1:9/v1", model="openai/gpt-4o"), account, Prices("openai/gpt-4o", INPUT_USD, OUTPUT_USD)
        )
        return [own, own.model_copy(update={"caching_prompt": False}), own.model_copy(update={"model": "openai/gpt-3.5-turbo"})]

    own, uncached, older = asyncio.run(make())
    assert [llm.vision_is_active() for llm in (own, uncached, older)] == [True, True, False]
    assert [llm.caching_prompt for llm in (own, uncached)] == [True, False]
    limits = [llm.effective_max_input_tokens for llm in (own, uncached, older)]
    assert limits[0] == limits[1] != limits[2]
    assert limits == [an_llm("", model=llm.model).effective_max_input_tokens for llm in (own, uncached, older)]


async def test_what_a_model_can_do_is_found_out_once_and_anew_for_a_copy_of_another_model() -> None:
    account = RunAccount(RecordingMeter(), max_turns=1, emit=lambda _: None)
    own = build_metered_llm(an_llm("http://127.0.0.1:9/v1", model="openai/gpt-4o"), account, Prices("openai/gpt-4o"))
    assert own.vision_is_active()
    features = LLM._model_features(own)
    assert own._model_features() is own._model_features() == features  # the SDK's own look-up makes them each time
    assert not own.model_copy(update={"model": "openai/gpt-3.5-turbo"}).vision_is_active()
