"""LLM calls within a budget: what the LLM is told and asked for, and what a call is charged that breaks off."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from openhands.sdk import LLM, ImageContent, Message, TextContent

from a2a_gateway.agents.llm.call import USUAL_OUTPUT_TOKENS, Attempt, LLMCall
from a2a_gateway.agents.llm.metered_llm import MeteredLLM, build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.prompt_size import Prompt
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.tool_schemas import ToolSchemas
from a2a_gateway.errors import BudgetExceeded
from a2a_gateway.runs.events import ContentDelta, Finished, Limited, RunnerEvent
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import AdmittedRun, CallQuote, RunId, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from a2a_gateway.testing.script import ScriptedCall, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.context import Narration
from tests.agents.driver import INPUT_USD, OUTPUT_USD, RecordingMeter, a_recipe, an_llm, driving, script, text_of, think, user
from tests.agents.llm.responses_server import ResponsesServer, function_call_events

pytestmark = pytest.mark.anyio

AMPLE = {"budget_micro_usd": 1_000_000, "left_micro_usd": 900_000, "max_output_tokens": 5_000}
SCARCE = {**AMPLE, "left_micro_usd": 150_000, "max_output_tokens": 4_000}
LAST = {**AMPLE, "left_micro_usd": 9_000, "max_output_tokens": 300, "last": True}
WARNING = "[Budget] 85 % of the budget of 1.000000 USD is used; 0.150000 USD are left."
FAREWELL = "[Budget] The budget of 1.000000 USD is used up. This is your last turn"


def side_llm(template: LLM, meter: RecordingMeter) -> MeteredLLM:
    """An LLM for calls that are no turn of the agent."""
    account = RunAccount(meter, max_turns=9, emit=lambda _: None)
    return build_metered_llm(template, account, Prices(template.model, INPUT_USD, OUTPUT_USD))


def says(text: str) -> Message:
    return Message(role="user", content=[TextContent(text=text)])


# ---------------------------------------------------------------------- what the LLM is told


async def test_the_notes_stand_in_the_last_message_of_one_call_and_in_no_transcript(tmp_path: Path) -> None:
    meter = RecordingMeter(grants=[AMPLE, SCARCE, LAST])
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        ran = await driver.run(script(think("one"), think("two"), {"content": "What I have."}), meter=meter)
    first, second, last = [request.body for request in llm.traffic.requests]
    assert [message["role"] for message in last["messages"]] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert WARNING in text_of(second["messages"][-1])
    assert FAREWELL in text_of(last["messages"][-1])
    assert [json.dumps(body).count("[Budget]") for body in (first, second, last)] == [0, 1, 1]
    assert last["messages"][:3] == second["messages"][:3]  # so a provider's cache of them still serves
    assert "[Budget]" not in ran.ended.transcript + ran.content
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason) == ("What I have.", "budget_exceeded")


async def test_the_last_call_offers_its_tools_and_forbids_them(tmp_path: Path) -> None:
    meter = RecordingMeter(grants=[AMPLE, LAST])
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        ran = await driver.run(script(think("one", content="One."), think("two", content="Two.")), meter=meter)
    asked, last = [request.body for request in llm.traffic.requests]
    assert last["tools"] == asked["tools"] != []
    assert (asked.get("tool_choice"), last["tool_choice"]) == (None, "none")
    assert (asked["max_completion_tokens"], last["max_completion_tokens"]) == (5_000, 300)
    assert isinstance(ran.outcome, Limited)  # though the LLM called a tool all the same
    assert (ran.outcome.text, len(meter.settled)) == ("One.\n\nTwo.", 2)


async def test_a_last_call_without_a_word_ends_the_run_with_what_was_said_before(tmp_path: Path) -> None:
    meter = RecordingMeter(grants=[AMPLE, LAST], refuse_from=2, refusal=BudgetExceeded("Spent."))
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        ran = await driver.run(script(think("one", content="One."), {"content": ""}), meter=meter, narration=Narration.NONE)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.content, ran.code) == ("One.", "One.", "budget_exceeded")


async def test_on_the_responses_endpoint_the_last_call_is_bounded_and_without_tools(tmp_path: Path) -> None:
    server = ResponsesServer(function_call_events("finish", {"message": "It is 42."}))
    async with server.serving() as url, driving(tmp_path, a_recipe(an_llm(url, model="openai/gpt-5"))) as driver:
        await driver.run(user("hi"), meter=RecordingMeter(grants=[AMPLE]))
        ran = await driver.run(user("hi"), meter=RecordingMeter(grants=[LAST]))
    free, last = server.bodies
    assert last["tools"] == free["tools"] != []
    assert [body["tool_choice"] for body in (free, last)] == ["auto", "none"]
    assert [body["max_output_tokens"] for body in (free, last)] == [5_000, 300]
    assert last["input"][-1]["content"][-1]["text"].startswith("hi\n\n" + FAREWELL)
    assert ran.outcome == Limited("It is 42.", "budget_exceeded", ran.outcome.error)  # type: ignore[union-attr]


async def test_a_prompt_is_cached_up_to_where_the_next_one_will_be_the_same(tmp_path: Path) -> None:
    meter = RecordingMeter(grants=[AMPLE, AMPLE, SCARCE])
    async with ScriptedLLM() as llm:
        # In a thread, because it asks the proxy what its model can do, and waits for the answer.
        template = await asyncio.to_thread(an_llm, llm.base_url, model="litellm_proxy/claude-sonnet-4-5")
        async with driving(tmp_path, a_recipe(template)) as driver:
            await driver.run(script(think("one"), think("two"), {"content": "ok"}), meter=meter)
    marked = []
    for request in llm.traffic.requests:
        messages = request.body["messages"]
        marked.append([index for index, message in enumerate(messages) if "cache_control" in json.dumps(message)])
    assert [len(request.body["messages"]) for request in llm.traffic.requests] == [2, 4, 6]
    assert marked == [[0, 1], [0, 3], [0, 3]]  # the last message of the third has the note


# ---------------------------------------------------------------------- how much it may write


async def test_a_budget_bounds_output_that_is_unbounded_and_not_free(tmp_path: Path) -> None:
    unbound = RecordingMeter(grants=[{"max_output_tokens": 16_384}])
    async with ScriptedLLM() as llm:
        priced = a_recipe(an_llm(llm.base_url))
        async with driving(tmp_path, priced) as driver:
            await driver.run(user("hi"), meter=unbound)
            await driver.run(user("hi"), meter=unbound, sampling=Sampling(max_output_tokens=77))
            await driver.run(user("hi"), meter=RecordingMeter(grants=[AMPLE]))
        free = replace(priced, input_usd_per_token=0.0, output_usd_per_token=0.0)
        async with driving(tmp_path / "free", free) as driver:
            await driver.run(user("hi"), meter=RecordingMeter(grants=[{**AMPLE, "max_output_tokens": 16_384}]))
    assert [request.body.get("max_completion_tokens") for request in llm.traffic.requests] == [None, 77, 5_000, None]


@pytest.mark.parametrize(
    ("changes", "expected"), [({}, 16_384), ({"max_input_tokens": 20_000}, 10_000), ({"max_output_tokens": 3_000}, 3_000)]
)
async def test_what_nobody_has_bounded_is_taken_for_half_the_context_or_the_sdk_s_own_cap(
    changes: dict[str, int], expected: int
) -> None:
    meter = RecordingMeter()
    async with ScriptedLLM() as llm:
        await side_llm(an_llm(llm.base_url, **changes), meter).acompletion([says("hi")])
    assert [quote.max_output_tokens for quote in meter.quotes] == [expected]


async def test_a_quote_bounds_what_the_request_asks_for(tmp_path: Path) -> None:
    meter = RecordingMeter()
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        await driver.run(script({"content": "ok"}), meter=meter, sampling=Sampling(max_output_tokens=77))
    [quote] = meter.quotes
    assert quote.max_output_tokens == 77
    [request] = llm.traffic.requests
    texts = [text_of(message) for message in request.body["messages"]]
    assert quote.prompt_tokens * 3 >= len("".join(texts)) + len(json.dumps(request.body["tools"]))


async def test_a_repeated_attempt_asks_for_no_more_than_was_set_aside_for_it(tmp_path: Path) -> None:
    meter = RecordingMeter(grants=[AMPLE, {**AMPLE, "max_output_tokens": 2_000}])
    replies = iter([Step(status=503, error="overloaded"), Step(content="ok")])
    async with (
        ScriptedLLM(direct=lambda _: next(replies)) as llm,
        driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver,
    ):
        ran = await driver.run(user("hi"), meter=meter)
    assert ran.outcome == Finished("ok")
    assert [request.body["max_completion_tokens"] for request in llm.traffic.requests] == [5_000, 2_000]
    assert [charge.turns for charge in meter.charges.values()] == [1, 0]


async def test_an_attempt_that_no_budget_allows_to_be_repeated_ends_the_run_as_limited(tmp_path: Path) -> None:
    meter = RecordingMeter(grants=[AMPLE], refuse_from=2, refusal=BudgetExceeded("Spent."))
    replies = iter(
        [Step(content="One.", tool_calls=(ScriptedCall("think", {"thought": "one"}),)), Step(status=503, error="busy")]
    )
    async with (
        ScriptedLLM(direct=lambda _: next(replies)) as llm,
        driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver,
    ):
        ran = await driver.run(user("hi"), meter=meter)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.code, len(meter.settled)) == ("One.", "budget_exceeded", 2)


async def test_a_call_with_little_output_left_reasons_less() -> None:
    scarce, ample = {**AMPLE, "max_output_tokens": 300}, {**AMPLE, "max_output_tokens": 9_000}
    async with ScriptedLLM() as llm:
        for model in ("openai/scripted", "litellm_proxy/claude-sonnet-4-5"):
            template = await asyncio.to_thread(an_llm, llm.base_url, model=model)  # in a thread: see above
            for grant in (ample, scarce):
                await side_llm(template, RecordingMeter(grants=[grant])).acompletion([says("hi")])
    named = ("reasoning_effort", "thinking")
    other, other_scarce, claude, claude_scarce = [
        {name: request.body[name] for name in named if name in request.body} for request in llm.traffic.requests
    ]
    assert (other, other_scarce) == ({"reasoning_effort": "high"}, {"reasoning_effort": "low"})
    assert claude["thinking"]["budget_tokens"] == 8_999
    assert claude_scarce == {}


@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_side_call_asks_for_no_more_than_was_set_aside_for_it_and_is_no_turn(in_thread: bool) -> None:
    meter = RecordingMeter(grants=[LAST])
    async with ScriptedLLM() as llm:
        side = side_llm(an_llm(llm.base_url), meter)
        if in_thread:
            await asyncio.to_thread(side.completion, [says("hi")])
        else:
            await side.acompletion([says("hi")])
    [request] = llm.traffic.requests
    assert request.body["max_completion_tokens"] == 300
    assert "[Budget]" not in json.dumps(request.body)
    assert [charge.turns for charge in meter.charges.values()] == [0]


# ---------------------------------------------------------------------- what a call that breaks off is charged


async def test_a_cancelled_call_is_charged_for_what_it_streamed_up_to_its_hold(
    tmp_path: Path,
) -> None:
    meter = RecordingMeter(grants=[{**AMPLE, "max_output_tokens": 4}])
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:

        async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
            if isinstance(event, ContentDelta):
                await driver.runner.cancel(run.record.id)

        words = {"content": "extraordinarilylongwords and more", "gate": {"name": "never", "after": 2}}
        await driver.run(script(words), meter=meter, watch=cancel)
    [charge], [quote] = meter.charges.values(), meter.quotes
    assert charge == Charge(charge.usage, charge.usage.prompt + 2 * 4, complete=False, turns=1)
    assert charge.usage.completion == 4
    assert 500 < charge.usage.prompt < quote.prompt_tokens


async def test_a_crash_would_charge_a_streamed_call_its_prompt_and_what_has_arrived(tmp_path: Path) -> None:
    meter, used = RecordingMeter(), list[int]()
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:

        async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
            if isinstance(event, ContentDelta):
                used.extend(estimate() for estimate in meter.followed.values())
                await driver.runner.cancel(run.record.id)

        words = {"content": "extraordinarilylongwords and more", "gate": {"name": "never", "after": 2}}
        await driver.run(script(words), meter=meter, watch=cancel)
    [charge], [quote] = meter.charges.values(), meter.quotes
    assert quote.sent_micro_usd == charge.usage.prompt
    assert used == [charge.usage.prompt + 2 * charge.usage.completion]  # as a call that breaks off is charged
    assert charge.usage.completion == 7


async def test_a_crash_would_charge_a_call_answered_whole_an_answer_of_usual_length(tmp_path: Path) -> None:
    meter = RecordingMeter()
    async with ScriptedLLM() as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url, stream=False))) as driver:
        await driver.run(user("hi"), meter=meter)
    [quote], [estimate] = meter.quotes, meter.followed.values()
    assert quote.sent_micro_usd is not None
    assert 500 < quote.sent_micro_usd - 2 * USUAL_OUTPUT_TOKENS < quote.prompt_tokens
    assert estimate() == quote.sent_micro_usd


def test_images_of_a_prompt_count_in_an_estimate() -> None:
    quote = CallQuote(9_000, 1_000, Decimal("0.000001"), Decimal("0.000002"))
    call = LLMCall(quote, Prompt(400, images=2), is_streamed=True, attempt=Attempt(streamed_bytes=40))
    assert call.used_micro_usd() == 100 + 2 * 1_000 + 2 * 10
    usage, _, complete = call.charge(Hold("hold", RunId("run")), Prices("none/none"))
    assert (usage, complete) == (TokenUsage(2_100, 10), False)


async def test_an_answered_call_is_charged_as_complete_and_a_refused_one_costs_nothing(tmp_path: Path) -> None:
    meter = RecordingMeter()
    replies = iter([Step(status=503, error="overloaded"), Step(content="ok", usage=Usage(1000, 100))])
    async with (
        ScriptedLLM(direct=lambda _: next(replies)) as llm,
        driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver,
    ):
        await driver.run(user("hi"), meter=meter)
    assert list(meter.charges.values()) == [Charge(turns=1), Charge(TokenUsage(1000, 100), 1200, turns=0)]


@pytest.mark.parametrize("status", [408, 504, 524])
async def test_a_call_that_nobody_waited_for_is_charged_for_what_it_was_sent(tmp_path: Path, status: int) -> None:
    meter = RecordingMeter()
    replies = iter([Step(status=status, error="too slow"), Step(content="ok", usage=Usage(1000, 100))])
    async with (
        ScriptedLLM(direct=lambda _: next(replies)) as llm,
        driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver,
    ):
        await driver.run(user("hi"), meter=meter)
    first = next(iter(meter.charges.values()))
    assert first == Charge(first.usage, first.usage.prompt, complete=False)
    assert first.usage.prompt > 500


@pytest.mark.parametrize("usage", ["omitted", Usage(0, 0), Usage(10**30, 1)])
async def test_an_answer_whose_usage_is_not_told_is_charged_for_its_size_as_incomplete(
    tmp_path: Path, usage: Literal["omitted"] | Usage
) -> None:
    meter = RecordingMeter(grants=[AMPLE])
    answer = Step(content="word " * 400, usage=usage)
    async with (
        ScriptedLLM(direct=lambda _: answer) as llm,
        driving(tmp_path, a_recipe(an_llm(llm.base_url, stream=False))) as driver,
    ):
        ran = await driver.run(user("hi"), meter=meter)
    assert isinstance(ran.outcome, Finished)
    [charge] = meter.charges.values()
    prompt, completion = charge.usage.prompt, charge.usage.completion
    assert 500 <= completion <= 550  # 2000 bytes, and what stands around them
    assert charge == Charge(TokenUsage(prompt, completion), prompt + 2 * completion, complete=False)


@pytest.mark.parametrize(("usage", "is_told"), [("omitted", False), ("estimated", True)])
async def test_a_stream_whose_usage_is_counted_here_is_charged_as_incomplete(
    tmp_path: Path, usage: Literal["omitted", "estimated"], is_told: bool
) -> None:
    meter = RecordingMeter()
    answer = Step(content="It is 42.", usage=usage)
    async with ScriptedLLM(direct=lambda _: answer) as llm, driving(tmp_path, a_recipe(an_llm(llm.base_url))) as driver:
        await driver.run(user("hi"), meter=meter)
    [charge] = meter.charges.values()
    assert (charge.complete, charge.usage.prompt > 500, charge.usage.completion > 0) == (is_told, True, True)


# ---------------------------------------------------------------------- how large a prompt is


def test_a_prompt_is_measured_in_bytes_with_its_images_and_its_reasoning() -> None:
    schemas = ToolSchemas()
    plain = Prompt.of([says("ab")], (), schemas)
    cjk = Prompt.of([says("語学")], (), schemas)
    seen = Prompt.of([Message(role="user", content=[ImageContent(image_urls=["data:,x", "data:,y"])])], (), schemas)
    thought = Prompt.of([Message(role="assistant", reasoning_content="hmm", content=[TextContent(text="ab")])], (), schemas)
    assert [prompt.utf8_bytes for prompt in (plain, cjk, seen, thought)] == [2, 6, 0, 5]
    assert seen.most_tokens() - Prompt(messages=1).most_tokens() >= 2 * 1_000
    assert cjk.most_tokens() > plain.most_tokens() > 0
