"""What goes wrong with an LLM or a tool, and how the run ends then."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.runs.events import Failed, Finished, ToolFinished, TurnFinished
from a2a_gateway.runs.messages import ImagePart, UserMessage
from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.testing.script import ChatRequest, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import API_KEY, USAGE, USED, Driver, a_recipe, an_llm, driving, script, think, user

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("tokens", [-1000, 10**30])
async def test_usage_that_cannot_be_earns_and_hides_nothing(driver: Driver, tokens: int) -> None:
    ran = await driver.run(script({"content": "one two three", "usage": {"prompt_tokens": tokens, "completion_tokens": 1}}))
    assert isinstance(ran.outcome, Finished)
    (charge,) = ran.meter.charges.values()
    assert charge.usage.prompt > 500
    assert charge.cost_micro_usd == charge.usage.prompt + 2 * charge.usage.completion
    assert not charge.complete


async def test_usage_that_was_not_told_is_estimated(driver: Driver) -> None:
    ran = await driver.run(script({"content": "one two three", "usage": "omitted"}))
    [(usage, cost)] = ran.meter.settled
    assert usage.prompt > 500
    assert usage.completion > 0
    assert cost == usage.prompt + 2 * usage.completion


async def test_a_tool_call_that_is_written_wrongly_is_the_llm_s_to_repair(tmp_path: Path) -> None:
    def direct(request: ChatRequest) -> Step:
        return Step(content="<function=think>\n<parameter=mood>grim</parameter>\n</function>" if request.number == 1 else "Done.")

    async with ScriptedLLM(direct=direct) as llm:
        recipe = a_recipe(an_llm(llm.base_url, native_tool_calling=False))
        async with driving(tmp_path, recipe) as driver:
            ran = await driver.run(user("Go."))
    assert ran.outcome == Finished("Done.")


@pytest.mark.parametrize(
    "step",
    [{"content": ""}, {"content": " \n "}, {"content": "", "reasoning": "Hm."}],
    ids=["nothing", "white space", "only reasoning"],
)
async def test_an_llm_that_answers_nothing_is_not_said_to_repeat_itself(driver: Driver, step: dict[str, Any]) -> None:
    ran = await driver.run(script(step))
    assert ran.code == "llm_unavailable"
    assert len(ran.meter.settled) == 3


async def test_an_agent_that_repeats_itself_is_said_to_be_stuck(driver: Driver) -> None:
    ran = await driver.run(script(think("again")))
    assert ran.code == "agent_stuck"


def event(*choices: dict[str, Any]) -> str:
    return f"data: {json.dumps({'id': 'x', 'created': 1, 'model': 'm', 'choices': [{'index': 0, **one} for one in choices]})}\n\n"


OPENAI_CUT = event({"delta": {"content": "half an"}, "finish_reason": None})
REASON = event({"delta": {}, "finish_reason": "stop"})
ANTHROPIC_CUT = """\
event: message_start
data: {"type": "message_start", "message": {"id": "m", "role": "assistant", "usage": {"input_tokens": 9, "output_tokens": 1}}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "half an"}}

"""


@pytest.mark.parametrize(
    ("model", "cut"),
    [
        ("openai/scripted", ""),
        ("openai/scripted", OPENAI_CUT),
        ("openrouter/scripted", OPENAI_CUT),
        ("anthropic/claude-sonnet-4-5", ANTHROPIC_CUT),
    ],
    ids=["nothing", "openai", "openrouter", "anthropic"],
)
async def test_an_answer_whose_stream_ends_politely_but_too_early_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, cut: str
) -> None:
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")  # as a gateway does
    async with saying(cut) as url, driving(tmp_path, a_recipe(an_llm(url, model=model))) as driver:
        ran = await driver.run(user("Go."))
    assert isinstance(ran.outcome, Failed)
    assert (ran.code, ran.outcome.text) == ("llm_unavailable", "half an" if cut else "")
    (charge,) = ran.meter.charges.values()
    assert charge.cost_micro_usd and not charge.complete


@pytest.mark.parametrize("model", ["openai/scripted", "openrouter/scripted"])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param("data: [DONE]\n\n", id="mark only"),
        pytest.param("data:[DONE]", id="mark without a space"),
        pytest.param(REASON, id="reason only"),
        pytest.param(f"{REASON}: bye\n\n{event()}", id="something after the reason"),
    ],
)
async def test_an_answer_is_whole_if_either_its_reason_or_the_mark_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, model: str
) -> None:
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")
    async with saying(OPENAI_CUT + end) as url, driving(tmp_path, a_recipe(an_llm(url, model=model))) as driver:
        ran = await driver.run(user("Go."))
    assert ran.outcome == Finished("half an")


@asynccontextmanager
async def saying(stream: str) -> AsyncIterator[str]:
    """Serve an LLM that answers each request with these events, and closes the connection as one does at the end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(stream)}\r\nconnection: close\r\n\r\n"
        writer.write((head + stream).encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
