"""A conversation that is too long: summarised where that helps, given up with the provider's own words where it cannot."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.errors import BudgetExceeded
from a2a_gateway.runs.events import Finished
from a2a_gateway.runs.messages import AssistantMessage, Message, TextPart
from a2a_gateway.testing.script import ChatRequest, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import RecordingMeter, a_recipe, an_llm, driving, script, think, user
from tests.support.bare_llm import bare_llm, chat_answer, chat_stream, http, refusal

pytestmark = pytest.mark.anyio

TOO_LONG: dict[str, Any] = {
    "status": 400,
    "error": "This model's maximum context length is 8192 tokens.",
    "code": "context_length_exceeded",
}
PAST: tuple[Message, ...] = (user("q1"), AssistantMessage((TextPart("a1"),)), user("q2"), AssistantMessage((TextPart("a2"),)))


def condensing(llm: ConfiguredLLM) -> AgentRecipe:
    condenser = llm.model_copy(update={"usage_id": "condenser", "stream": False})
    return replace(a_recipe(llm), condenser_llm=condenser)


def shortened(request: ChatRequest) -> Step:
    """Refuse a conversation until it is summarised."""
    if not request.tools:
        return Step(content="SUMMARY")
    return Step(content="done") if "SUMMARY" in str(request.messages) else Step(**TOO_LONG)


async def test_a_lone_message_that_is_too_long_costs_one_call(tmp_path: Path) -> None:
    async with ScriptedLLM() as llm, driving(tmp_path, condensing(an_llm(llm.base_url))) as driver:
        ran = await driver.run(script(TOO_LONG))
    assert ran.code == "context_length_exceeded"
    assert "8192 tokens" in ran.outcome.error.message  # type: ignore[union-attr]  # an outcome without an error fails the test
    assert llm.traffic.received == 1


async def test_a_conversation_that_is_too_long_is_summarised_and_goes_on(tmp_path: Path) -> None:
    async with ScriptedLLM(direct=shortened) as llm, driving(tmp_path, condensing(an_llm(llm.base_url))) as driver:
        ran = await driver.run(*PAST, user("now"))
    assert ran.outcome == Finished("done")
    assert llm.traffic.received == 3


async def test_a_summary_that_is_too_long_itself_is_tried_with_ever_less_and_then_given_up(tmp_path: Path) -> None:
    llm = ScriptedLLM(direct=lambda _: Step(**TOO_LONG))
    async with llm, driving(tmp_path, condensing(an_llm(llm.base_url))) as driver:
        ran = await driver.run(*PAST, user("x" * 64_000))
    assert ran.code == "context_length_exceeded"
    first, *shrinking = [request.size_bytes for request in llm.traffic.requests if not request.tools]
    assert len(shrinking) == 5
    assert shrinking == sorted(set(shrinking), reverse=True)
    assert shrinking[-1] < first


async def test_a_summary_that_fails_of_something_else_is_not_tried_again_and_says_what(tmp_path: Path) -> None:
    def direct(request: ChatRequest) -> Step:
        return Step(**TOO_LONG) if request.tools else Step(status=401, error="no", code="invalid_api_key")

    async with ScriptedLLM(direct=direct) as llm, driving(tmp_path, condensing(an_llm(llm.base_url))) as driver:
        ran = await driver.run(user("q1"), AssistantMessage((TextPart("a1"),)), user("now"))
    assert ran.code == "llm_auth_failed"
    assert llm.traffic.received == 2


async def test_a_summary_is_no_turn_for_which_a_budget_keeps_something_back(tmp_path: Path) -> None:
    meter = RecordingMeter()
    async with ScriptedLLM(direct=shortened) as llm, driving(tmp_path, condensing(an_llm(llm.base_url))) as driver:
        await driver.run(*PAST, user("now"), meter=meter)
    assert [quote.is_turn for quote in meter.quotes] == [True, False, True]


async def test_a_budget_that_ends_before_the_summary_is_said_to_be_the_reason(tmp_path: Path) -> None:
    meter = RecordingMeter(refuse_from=2, refusal=BudgetExceeded("Spent."))
    async with ScriptedLLM() as llm, driving(tmp_path, condensing(an_llm(llm.base_url))) as driver:
        ran = await driver.run(script(think(), TOO_LONG), meter=meter)
    assert ran.code == "budget_exceeded"
    assert llm.traffic.received == 2


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(refusal(400, "Prompt exceeds max length", code="1261"), id="words that LiteLLM does not know"),
        pytest.param(refusal(500, "Context size has been exceeded."), id="a status that is tried again otherwise"),
        pytest.param(http(413, "<html>413 Request Entity Too Large</html>", "text/html"), id="a proxy in front"),
        pytest.param(
            http(200, 'event: error\ndata: {"error": {"message": "Reached context length of 4096"}}\n\n', "text/event-stream"),
            id="an event of a stream",
        ),
    ],
)
async def test_a_server_that_takes_short_prompts_only_gets_shorter_ones(tmp_path: Path, refusal: bytes) -> None:
    def choose(body: Mapping[str, Any]) -> bytes:
        if len(json.dumps(body["messages"])) > 40_000:
            return refusal
        if body.get("stream"):
            return http(200, chat_stream({"content": "done"}), "text/event-stream")
        return http(200, chat_answer("SUMMARY"))

    past = (user("x" * 50_000), AssistantMessage((TextPart("a1"),)))
    async with bare_llm(choose) as llm, driving(tmp_path, condensing(an_llm(llm.base_url, num_retries=3))) as driver:
        ran = await driver.run(*past, user("now"))
    assert ran.outcome == Finished("done")
    assert "SUMMARY" in json.dumps(llm.requests[-1])
    assert len([body for body in llm.requests if body.get("stream")]) == 2
