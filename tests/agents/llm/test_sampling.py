"""What a request asks of an LLM and does not get: held against what its provider is really sent."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from openhands.sdk import LLM, Message, TextContent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from a2a_gateway.agents.llm.metered_llm import build_metered_llm
from a2a_gateway.agents.llm.pricing import Prices
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.sampling import ignored_options
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.testing.serving import serve_app
from tests.agents.driver import INPUT_USD, OUTPUT_USD, RecordingMeter, an_llm

pytestmark = pytest.mark.anyio

OTHER = Sampling(temperature=0.75, top_p=0.75, max_output_tokens=3_000, stop=("x",), seed=8, reasoning_effort="none")
"""For each option another value than any that is asked for below."""
WIRE_NAMES = {"max_output_tokens": "max_tokens"}


@asynccontextmanager
async def refusing() -> AsyncIterator[tuple[str, list[str]]]:
    """A provider that refuses all it is sent; yields its URL, and what it was sent."""
    bodies: list[str] = []

    async def refuse(request: Request) -> Response:
        body = await request.json()
        bodies.append(json.dumps({name: value for name, value in body.items() if name not in ("messages", "input")}))
        return JSONResponse({"error": {"message": "No.", "type": "invalid_request_error"}}, 400)

    async with serve_app(Starlette(routes=[Route("/{path:path}", refuse, methods=["POST"])])) as url:
        yield url, bodies


async def call(llm: LLM, asked: Sampling) -> None:
    """Make one call; its answer is of no interest."""
    account = RunAccount(RecordingMeter(), max_turns=9, emit=lambda _: None)
    run_llm = build_metered_llm(llm, account, Prices(llm.model, INPUT_USD, OUTPUT_USD), sampling=asked)
    messages = [Message(role="user", content=[TextContent(text="hi")])]
    with pytest.raises(Exception):  # noqa: B017  # each provider refuses in its own way
        await (run_llm.aresponses if run_llm.uses_responses_api() else run_llm.acompletion)(messages)


def variants(asked: Sampling) -> Iterator[tuple[str, Sampling]]:
    """Each option that is asked for, and the request with another value of it."""
    for name in asked.__dataclass_fields__:
        if getattr(asked, name) not in (None, ()):
            yield WIRE_NAMES.get(name, name), replace(asked, **{name: getattr(OTHER, name)})


ALL: dict[str, Any] = {"temperature": 0.5, "top_p": 0.5, "max_output_tokens": 6_000, "seed": 7, "reasoning_effort": "high"}
EXPECTED = {
    "openai/gpt-4o": "reasoning_effort",
    "openai/scripted": "",
    "openai/gpt-5": "seed temperature top_p",
    "openai/o3": "seed temperature top_p",
    "anthropic/claude-sonnet-4-5": "seed temperature top_p",
    "anthropic/claude-opus-4-6": "seed temperature top_p",
    "anthropic/claude-3-5-haiku-latest": "reasoning_effort seed",
    "openrouter/anthropic/claude-sonnet-4.5": "temperature top_p",
    "mistral/mistral-large-latest": "reasoning_effort",
    "groq/llama-3.3-70b-versatile": "reasoning_effort",
    "xai/grok-4": "reasoning_effort stop",
    "deepseek/deepseek-chat": "",
    "ollama_chat/llama3": "",
}


@pytest.mark.parametrize("model", EXPECTED)
async def test_the_options_that_are_named_are_those_that_change_nothing_of_what_is_sent(model: str) -> None:
    async with refusing() as (url, bodies):
        llm = an_llm(url, model=model, stream=False, num_retries=0)
        asked = Sampling(**ALL, stop=() if llm.uses_responses_api() else ("END",))
        await call(llm, asked)
        without_effect = set()
        for name, other in variants(asked):
            await call(llm, other)
            if bodies[-1] == bodies[0]:
                without_effect.add(name)
    assert ignored_options(llm, asked) == tuple(sorted(without_effect)) == tuple(EXPECTED[model].split())


def test_what_is_asked_for_like_in_the_profile_has_an_effect_all_the_same() -> None:
    llm = an_llm("http://127.0.0.1:9", temperature=0.5, top_p=0.5, seed=7, reasoning_effort="high", max_output_tokens=6_000)
    assert ignored_options(llm, Sampling(**ALL)) == ()


def test_where_tools_are_prompted_for_the_sdk_s_own_stop_sequences_count() -> None:
    assert ignored_options(an_llm("http://127.0.0.1:9", native_tool_calling=False), Sampling(stop=("END",))) == ("stop",)


@pytest.mark.parametrize(
    ("model", "asked", "names"),
    [
        ("openai/gpt-4o", Sampling(max_output_tokens=1_000_000), ("max_tokens",)),
        ("openai/gpt-4o", Sampling(max_output_tokens=1), ()),
        ("openai/gpt-4o", Sampling(stop=tuple("abcde")), ("stop",)),
        ("openai/gpt-4o", Sampling(temperature=2), ()),
        ("mistral/mistral-large-latest", Sampling(temperature=2), ("temperature",)),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", Sampling(temperature=0.5), ("temperature",)),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", Sampling(max_output_tokens=16), ()),
        ("anthropic/claude-sonnet-4-5", Sampling(max_output_tokens=16, reasoning_effort="high"), ("reasoning_effort",)),
        ("anthropic/claude-sonnet-4-5", Sampling(max_output_tokens=9_000, reasoning_effort="max"), ("reasoning_effort",)),
        ("nobody-knows/this", Sampling(temperature=0.5), ()),
    ],
)
def test_values_that_are_cut_down_are_named(model: str, asked: Sampling, names: tuple[str, ...]) -> None:
    assert ignored_options(an_llm("http://127.0.0.1:9", model=model), asked) == names
