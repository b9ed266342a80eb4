"""Runs of a real agent, from its messages to its outcome."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.agents.masking import HIDDEN
from a2a_gateway.errors import BudgetExceeded, RunCancelled
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    ReasoningDelta,
    RunEnded,
    RunnerEvent,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.messages import (
    AnswerFormat,
    AssistantMessage,
    ImagePart,
    Sampling,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from a2a_gateway.runs.model import AdmittedRun, Limits, TokenUsage
from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.context import DelegationBinding, Narration
from tests.agents.driver import API_KEY, Driver, RecordingMeter, a_recipe, an_llm, driving, script, think, user

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": 400, "reasoning_tokens": 30}
USED = TokenUsage(1000, 100, cached=400, reasoning=30)
COST = 1200


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLLM]:
    async with ScriptedLLM() as server:
        yield server


@pytest.fixture
async def driver(llm: ScriptedLLM, tmp_path: Path) -> AsyncIterator[Driver]:
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url), "terminal", "delegate")) as opened:
        yield opened


# ---------------------------------------------------------------------- what a run tells


async def test_a_run_tells_its_words_its_tools_its_costs_and_its_outcome_in_order(driver: Driver) -> None:
    ran = await driver.run(script(think(content="Let me see.", usage=USAGE), {"finish": "It is 42.", "usage": USAGE}))
    *events, ended = ran.events
    calls = [event.call_id for event in events if isinstance(event, ToolStarted)]
    texts = [event for event in events if not isinstance(event, ContentDelta)]
    assert texts == [
        TurnFinished(1, USED, COST),
        ToolStarted("think", calls[0]),
        ToolFinished("think", calls[0]),
        TurnFinished(2, USED, COST),
    ]
    assert isinstance(ended, RunEnded)
    assert ended.outcome == Finished("Let me see.\n\nIt is 42.")
    assert ran.content == "Let me see.\n\nIt is 42."
    assert ran.meter.settled == [(USED, COST), (USED, COST)]


@pytest.mark.parametrize(
    ("narration", "expected"),
    [
        (Narration.REASONING, [ReasoningDelta("Let me see."), ContentDelta("42.")]),
        (Narration.NONE, [ContentDelta("42.")]),
    ],
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


# ---------------------------------------------------------------------- what the LLM is sent


def sent(llm: ScriptedLLM, index: int = -1) -> dict[str, Any]:
    return dict(llm.traffic.requests[index].body)


async def test_the_whole_history_reaches_the_llm_as_turns_and_system_text_as_system_text(
    driver: Driver, llm: ScriptedLLM
) -> None:
    call = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
    await driver.run(
        SystemMessage((TextPart("Be terse."),)),
        user("first"),
        AssistantMessage((TextPart("one"),)),
        user("weather?"),
        AssistantMessage((), (call,)),
        ToolMessage("c1", (TextPart("rain"),)),
        AssistantMessage((TextPart("It rains."),)),
        user("and now?"),
    )
    system, *rest = sent(llm)["messages"]
    assert "Be terse." in str(system["content"])
    flat = [(message["role"], message.get("tool_call_id"), _text(message)) for message in rest]
    assert flat == [
        ("user", None, "first"),
        ("assistant", None, "one"),
        ("user", None, "weather?"),
        ("assistant", None, ""),
        ("tool", "c1", "rain"),
        ("assistant", None, "It rains."),
        ("user", None, "and now?"),
    ]
    assert rest[3]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def test_a_tool_result_as_the_last_message_goes_on_without_a_new_user_message(driver: Driver, llm: ScriptedLLM) -> None:
    call = ToolCall("c1", "get_weather", "{}")
    ran = await driver.run(user("weather?"), AssistantMessage((), (call,)), ToolMessage("c1", (TextPart("rain"),)))
    assert ran.outcome == Finished("ok")
    assert [message["role"] for message in sent(llm)["messages"]] == ["system", "user", "assistant", "tool"]


async def test_a_message_longer_than_the_sdk_s_limit_is_not_cut(driver: Driver, llm: ScriptedLLM) -> None:
    long = "x" * 200_000
    await driver.run(user(long))
    assert _text(sent(llm)["messages"][-1]) == long


async def test_sampling_is_honoured(driver: Driver, llm: ScriptedLLM) -> None:
    sampling = Sampling(temperature=0.3, top_p=0.9, max_output_tokens=77, stop=("END",), seed=5)
    await driver.run(user("hi"), sampling=sampling)
    body = sent(llm)
    names = ("temperature", "top_p", "max_completion_tokens", "stop", "seed")
    assert {name: body.get(name) for name in names} == {
        "temperature": 0.3,
        "top_p": 0.9,
        "max_completion_tokens": 77,
        "stop": ["END"],
        "seed": 5,
    }


async def test_the_delegation_tool_is_offered_only_to_a_run_that_may_delegate(driver: Driver, llm: ScriptedLLM) -> None:
    await driver.run(user("hi"))
    binding = DelegationBinding("http://127.0.0.1:9/v1", "token-0123456789", "run", "openhands_scripted")
    await driver.run(user("hi"), binding=binding)
    offered = [{tool["function"]["name"] for tool in request.body["tools"]} for request in llm.traffic.requests]
    assert offered[1] - offered[0] == {"delegate"}
    assert {"terminal", "finish", "think"} <= offered[0]


async def test_neither_the_key_nor_the_run_s_token_reaches_the_llm_or_the_caller(driver: Driver, llm: ScriptedLLM) -> None:
    token = "run-token-0123456789"
    binding = DelegationBinding("http://127.0.0.1:9/v1", token, "run", "openhands_scripted")
    ran = await driver.run(script({"content": f"key {API_KEY} token {token}"}), binding=binding)
    assert ran.outcome == Finished(f"key {HIDDEN} token {HIDDEN}")
    assert not any(secret in ran.ended.transcript for secret in (API_KEY, token))
    prompt = str([message for message in sent(llm)["messages"] if message["role"] == "system"])
    assert token not in prompt + str(sent(llm)["tools"])


# ---------------------------------------------------------------------- a conversation that goes on


async def test_a_conversation_goes_on_where_it_was_and_what_is_sent_again_is_not_doubled(
    driver: Driver, llm: ScriptedLLM
) -> None:
    first = script(think(), {"content": "one"}, text="first")
    system = SystemMessage((TextPart("Be terse."),))
    before = await driver.run(system, first)
    again = [user("second")], [system, first, AssistantMessage((TextPart("one"),)), user("second")]
    seen = []
    for messages in again:
        ran = await driver.run(*messages, transcript=before.ended.transcript)
        assert ran.outcome == Finished("one")
        seen.append(sent(llm)["messages"])
    assert [message["role"] for message in seen[0]] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert "Be terse." in str(seen[0][0])
    assert seen[0] == seen[1]


async def test_a_cancelled_conversation_can_go_on(driver: Driver, llm: ScriptedLLM) -> None:
    async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
        if isinstance(event, ToolStarted):
            await driver.runner.cancel(run.record.id)

    slow = {"tool_calls": [{"name": "terminal", "arguments": {"command": "sleep 30"}}]}
    before = await driver.run(script(slow), watch=cancel)
    assert before.outcome == Cancelled("")
    after = await driver.run(script({"content": "on we go"}), transcript=before.ended.transcript)
    assert after.outcome == Finished("on we go")
    messages = sent(llm)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "user"]


async def test_a_run_that_could_not_begin_keeps_the_conversation(driver: Driver) -> None:
    before = await driver.run(script({"content": "one"}))
    picture = UserMessage((ImagePart("https://example.org/a.png"),))
    ran = await driver.run(picture, transcript=before.ended.transcript)
    assert (ran.code, ran.ended.transcript) == ("unsupported_parameter", before.ended.transcript)


# ---------------------------------------------------------------------- limits


async def test_the_deadline_ends_a_run_with_what_was_said_by_then(driver: Driver) -> None:
    ran = await driver.run(script({"content": "one two", "gate": {"name": "never", "after": 2}}), timeout_s=0.5)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason, ran.code) == ("one ", "deadline_exceeded", "deadline_exceeded")
    assert ran.content == "one "


async def test_turns_are_llm_calls_and_the_last_words_are_shown(driver: Driver, llm: ScriptedLLM) -> None:
    turns = [think(str(number), content=f"Step {number}.") for number in range(5)]
    ran = await driver.run(script(*turns), limits=Limits(max_turns=3), narration=Narration.NONE)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason, ran.code) == ("Step 2.", "max_turns", "max_turns_exceeded")
    assert llm.traffic.received == len(ran.meter.settled) == 3


async def test_a_refused_reservation_ends_the_run_before_the_call(driver: Driver, llm: ScriptedLLM) -> None:
    meter = RecordingMeter(refuse_from=1, refusal=BudgetExceeded("Spent."))
    ran = await driver.run(script(think(content="Let me see."), {"content": "42."}), meter=meter)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason, ran.code) == ("Let me see.", "budget_exceeded", "budget_exceeded")
    assert llm.traffic.received == len(meter.settled) == 1


async def test_a_run_that_the_ledger_has_closed_ends_as_cancelled(driver: Driver) -> None:
    meter = RecordingMeter(refuse_from=0, refusal=RunCancelled("Closed."))
    assert (await driver.run(user("hi"), meter=meter)).outcome == Cancelled("")


async def test_an_answer_cut_off_at_the_limit_of_tokens_is_limited(driver: Driver) -> None:
    ran = await driver.run(script({"content": "one two", "finish_reason": "length"}))
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason) == ("one two", "max_tokens")


async def test_an_agent_that_repeats_itself_is_stuck(driver: Driver) -> None:
    ran = await driver.run(script(think("the same")))
    assert ran.code == "agent_stuck"


# ---------------------------------------------------------------------- cancelling


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


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"status": 400, "error": "no such parameter"}, "llm_bad_request"),
        ({"status": 401, "error": f"Incorrect API key provided: {API_KEY}", "code": "invalid_api_key"}, "llm_auth_failed"),
        ({"status": 403, "error": "not for you"}, "llm_auth_failed"),
        ({"status": 404, "error": "no such model", "code": "model_not_found"}, "llm_not_found"),
        ({"status": 429, "error": "slow down", "code": "rate_limit_exceeded"}, "llm_rate_limited"),
        ({"status": 429, "error": "You exceeded your current quota", "code": "insufficient_quota"}, "llm_unavailable"),
        ({"status": 500, "error": "oops"}, "llm_unavailable"),
        ({"status": 503, "error": "overloaded"}, "llm_unavailable"),
        (
            {"status": 400, "error": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"},
            "context_length_exceeded",
        ),
        ({"content": "", "finish_reason": "content_filter"}, "content_filter"),
    ],
)
async def test_a_refusal_of_the_llm_has_its_code_its_words_and_no_secret(driver: Driver, step: dict[str, Any], code: str) -> None:
    ran = await driver.run(script(step))
    assert isinstance(ran.outcome, Failed)
    assert ran.code == code
    assert API_KEY not in ran.outcome.error.message
    assert len(ran.meter.settled) == 1
    if "status" in step:
        assert ran.meter.settled == [(TokenUsage(), 0)]


async def test_a_rate_limit_says_when_to_come_back(driver: Driver) -> None:
    ran = await driver.run(script({"status": 429, "error": "slow down", "headers": {"retry-after": "7"}}))
    assert isinstance(ran.outcome, Failed)
    assert ran.outcome.error.retry_after_s == 7.0


async def test_an_llm_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    async with driving(tmp_path, a_recipe(an_llm("http://127.0.0.1:9/v1"))) as driver:
        ran = await driver.run(user("hi"))
    assert ran.code == "llm_unavailable"
    assert ran.meter.settled == [(TokenUsage(), 0)]


async def test_a_refused_attempt_is_repeated_and_each_attempt_is_booked(llm: ScriptedLLM, tmp_path: Path) -> None:
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver:
        ran = await driver.run(script({"status": 503, "error": "overloaded"}))
    assert ran.code == "llm_unavailable"
    assert ran.meter.settled == [(TokenUsage(), 0)] * 3


async def test_a_stream_that_breaks_off_is_not_repeated_and_its_words_are_kept(llm: ScriptedLLM, tmp_path: Path) -> None:
    async with driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver:
        ran = await driver.run(script({"content": "one two three four", "drop_after": 3}))
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.outcome.text, ran.content) == ("llm_unavailable", "one two ", "one two ")
    assert llm.traffic.received == 1
    [(usage, cost)] = ran.meter.settled
    assert usage.completion == 2
    assert cost == usage.prompt + 2 * usage.completion


async def test_an_image_for_a_model_without_vision_is_refused_before_anything_is_spent(driver: Driver) -> None:
    ran = await driver.run(UserMessage((ImagePart("https://example.org/a.png"),)))
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.outcome.error.param) == ("unsupported_parameter", "messages.0.content")
    assert ran.meter.settled == []


async def test_a_call_of_a_tool_that_there_is_not_is_an_error_to_the_agent_only(driver: Driver) -> None:
    ran = await driver.run(script({"tool_calls": [{"name": "fly", "arguments": {}}]}, {"content": "I cannot."}))
    assert [event.is_error for event in ran.events if isinstance(event, ToolFinished)] == [True]
    assert ran.outcome == Finished("I cannot.")


async def test_an_unknown_price_is_unknown_and_not_zero(llm: ScriptedLLM, tmp_path: Path) -> None:
    recipe = replace(a_recipe(an_llm(llm.base_url)), input_usd_per_token=None, output_usd_per_token=None)
    async with driving(tmp_path, recipe) as driver:
        ran = await driver.run(script({"content": "ok", "usage": USAGE}))
    assert ran.meter.settled == [(USED, None)]
    assert TurnFinished(1, USED, None) in ran.events


async def test_usage_that_was_not_told_is_estimated(driver: Driver) -> None:
    ran = await driver.run(script({"content": "one two three", "usage": "omitted"}))
    [(usage, cost)] = ran.meter.settled
    assert usage.prompt > 500
    assert usage.completion > 0
    assert cost == usage.prompt + 2 * usage.completion


# ---------------------------------------------------------------------- the form of the answer

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
    assert "not JSON" in _text(sent(llm)["messages"][-1])


async def test_a_repaired_answer_is_the_answer(driver: Driver, llm: ScriptedLLM) -> None:
    replies = iter(['{"city": "Oslo"}', '{"name": "Oslo"}'])
    llm.direct = lambda _: Step(content=next(replies))
    ran = await driver.run(user("Which city?"), answer_format=CITY)
    assert ran.outcome == Finished('{"name": "Oslo"}')
    assert len(ran.meter.settled) == 2


# ---------------------------------------------------------------------- many at once, and the first


async def test_runs_at_the_same_time_keep_their_words_and_their_costs_apart(driver: Driver) -> None:
    gate = {"name": "together", "opens_at": 8}
    runs = [driver.run(script({"content": f"answer {number}", "gate": gate, "usage": USAGE})) for number in range(8)]
    ran = await asyncio.gather(*runs)
    assert [one.outcome for one in ran] == [Finished(f"answer {number}") for number in range(8)]
    assert [one.meter.settled for one in ran] == [[(USED, COST)]] * 8


async def test_warming_up_calls_no_provider_and_leaves_the_runner_ready(driver: Driver, llm: ScriptedLLM) -> None:
    await driver.runner.warm_up(["scripted"])
    assert llm.traffic.received == 0
    assert (await driver.run(user("hi"))).outcome == Finished("ok")
