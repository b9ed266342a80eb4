"""Claude: little output and thinking do not go together, and its provider refuses what others take."""

from pathlib import Path
from typing import Any

import pytest
from openhands.sdk import Message, TextContent

from a2a_gateway.agents.llm.metered_llm import build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.sampling import ignored_options
from a2a_gateway.runs.events import Finished
from a2a_gateway.runs.messages import Sampling
from tests.agents.driver import INPUT_USD, OUTPUT_USD, RecordingMeter, a_recipe, an_llm, driving, user
from tests.agents.llm.anthropic_server import AnthropicServer

pytestmark = pytest.mark.anyio

MODELS = ("claude-sonnet-4-5", "claude-opus-4-1", "claude-opus-4-6", "claude-3-5-haiku-latest", "a-model-unknown-to-litellm")


async def sent(server: AnthropicServer, url: str, model: str, sampling: Sampling, **grant: Any) -> dict[str, Any]:
    """Make one call with these options, outside of a turn, and return what the provider was sent; fails if it refuses."""
    account = RunAccount(RecordingMeter(grants=[grant]), max_turns=9, emit=lambda _: None)
    template = an_llm(url, model=f"anthropic/{model}", stream=False, num_retries=0)
    llm = build_metered_llm(template, account, Prices(template.model, INPUT_USD, OUTPUT_USD), sampling=sampling)
    await llm.acompletion([Message(role="user", content=[TextContent(text="hi")])])
    return server.bodies[-1]


@pytest.mark.parametrize("model", MODELS)
async def test_any_bound_of_the_output_is_taken_with_any_effort(model: str) -> None:
    server = AnthropicServer()
    async with server.serving() as url:
        for most in (16, 1000, 1024, 2048, 4096, 9000):
            for effort in (None, "none", "max"):
                body = await sent(server, url, model, Sampling(max_output_tokens=most, reasoning_effort=effort))
                assert body["max_tokens"] == most
            await sent(server, url, model, Sampling(), budget_micro_usd=10**9, max_output_tokens=most)


async def test_more_output_than_the_model_has_is_cut_down_and_named() -> None:
    server, asked = AnthropicServer(), Sampling(max_output_tokens=1_000_000)
    async with server.serving() as url:
        body = await sent(server, url, "claude-sonnet-4-5", asked)
        assert ignored_options(an_llm(url, model="anthropic/claude-sonnet-4-5"), asked) == ("max_tokens",)
    assert body["max_tokens"] == 64_000


async def test_a_bound_leaves_room_for_thinking_and_for_an_answer() -> None:
    server = AnthropicServer()
    budgets = {}
    async with server.serving() as url:
        for most in (2047, 2048, 4000, 9000):
            body = await sent(server, url, "claude-sonnet-4-5", Sampling(max_output_tokens=most))
            budgets[most] = body.get("thinking", {}).get("budget_tokens")
    assert budgets == {2047: None, 2048: 1024, 4000: 2976, 9000: 8999}


async def test_an_effort_means_something_to_a_model_with_a_thinking_budget() -> None:
    server = AnthropicServer()
    budgets = {}
    async with server.serving() as url:
        for effort in ("none", "low", "medium", "high", "max"):
            body = await sent(server, url, "claude-sonnet-4-5", Sampling(reasoning_effort=effort))
            budgets[effort] = body.get("thinking", {}).get("budget_tokens")
    assert budgets == {"none": None, "low": 1024, "medium": 2048, "high": 4096, "max": 16_384}


async def test_a_run_that_may_write_a_title_only_is_answered(tmp_path: Path) -> None:
    server = AnthropicServer()
    async with server.serving() as url:
        recipe = a_recipe(an_llm(url, model="anthropic/claude-sonnet-4-5"))
        async with driving(tmp_path, recipe) as driver:
            ran = await driver.run(user("A title, please."), sampling=Sampling(max_output_tokens=16))
    assert ran.outcome == Finished("ok")
    [body] = server.bodies
    assert (body["stream"], body["max_tokens"], "thinking" in body) == (True, 16, False)


async def test_a_repeated_attempt_for_which_less_is_left_is_taken(tmp_path: Path) -> None:
    server = AnthropicServer(overloaded=1)
    grants = [{"budget_micro_usd": 10**9, "max_output_tokens": most} for most in (20_000, 2_000)]
    async with server.serving() as url:
        recipe = a_recipe(an_llm(url, model="anthropic/claude-sonnet-4-5", num_retries=3))
        async with driving(tmp_path, recipe) as driver:
            ran = await driver.run(user("Go."), meter=RecordingMeter(grants=grants))
    assert ran.outcome == Finished("ok")
    assert [(body["max_tokens"], "thinking" in body) for body in server.bodies] == [(20_000, True), (2_000, False)]


async def test_values_that_its_provider_refuses_are_cut_down_and_named() -> None:
    server, asked = AnthropicServer(), Sampling(temperature=2, max_output_tokens=100, stop=("\n", "a", "b", "c", "d", "e"))
    async with server.serving() as url:
        body = await sent(server, url, "claude-3-5-haiku-latest", asked)
        template = an_llm(url, model="anthropic/claude-3-5-haiku-latest")
    assert (body["temperature"], body["stop_sequences"]) == (1, ["a", "b", "c", "d"])
    assert ignored_options(template, asked) == ("stop", "temperature")
