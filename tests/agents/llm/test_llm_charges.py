"""What a failed LLM call is charged: nothing only where it is certain that the provider has not worked on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.runs.ports import Charge
from tests.agents.driver import a_recipe, an_llm, driving, user
from tests.support.bare_llm import Answer, bare_llm, chat_answer, chat_stream, http, refusal, reset

pytestmark = pytest.mark.anyio

MODELS = ["openai/scripted", "openai/gpt-5.4", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "openrouter/a/b"]
NOTHING = Charge(TokenUsage(), 0, complete=True)


def broken(content_type: str, body: bytes = b"") -> bytes:
    """Begin an answer with status 200 whose connection is lost."""
    return http(200, body, content_type).replace(f"content-length: {len(body)}".encode(), b"content-length: 500")


@pytest.fixture(autouse=True)
def own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send chat completions as a gateway does."""
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")


async def charges(directory: Path, answer: Answer, model: str = MODELS[0], **changes: Any) -> list[Charge]:
    """Book a run on an LLM that gives this answer to each request; what counts turns is left out."""
    async with bare_llm(lambda _: answer) as llm:
        return await charges_at(directory, llm.base_url, model, **changes)


async def charges_at(directory: Path, base_url: str, model: str = MODELS[0], **changes: Any) -> list[Charge]:
    async with driving(directory, a_recipe(an_llm(base_url, model=model, **changes))) as driver:
        ran = await driver.run(user("Go."))
    return [Charge(charge.usage, charge.cost_micro_usd, complete=charge.complete) for charge in ran.meter.charges.values()]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("answer", "stream"),
    [
        pytest.param(broken("text/event-stream"), True, id="stream broken before its first word"),
        pytest.param(broken("application/json", b"{"), False, id="whole answer broken"),
        pytest.param(b"", True, id="closed without an answer"),
        pytest.param(reset, False, id="reset after the request"),
        pytest.param(refusal(502, "The server behind this one was lost."), True, id="502"),
    ],
)
async def test_a_call_that_may_have_been_worked_on_is_charged_an_estimate(
    tmp_path: Path, model: str, answer: Answer, stream: bool
) -> None:
    (charge,) = await charges(tmp_path, answer, model, stream=stream)
    assert charge.usage.prompt > 500
    assert charge.cost_micro_usd == charge.usage.prompt + 2 * charge.usage.completion
    assert not charge.complete


async def test_each_attempt_that_broke_is_charged(tmp_path: Path) -> None:
    attempts = await charges(tmp_path, broken("text/event-stream"), num_retries=3)
    assert [(bool(charge.cost_micro_usd), charge.complete) for charge in attempts] == [(True, False)] * 3


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("status", [400, 429, 500, 503, 529])
async def test_a_refusal_by_status_costs_nothing_and_that_is_certain(tmp_path: Path, model: str, status: int) -> None:
    assert await charges(tmp_path, refusal(status, "no"), model) == [NOTHING]


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:9/v1", "https://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"],
    ids=["refused", "refused before TLS", "unknown host"],
)
async def test_an_llm_that_was_not_reached_costs_nothing(tmp_path: Path, base_url: str) -> None:
    assert await charges_at(tmp_path, base_url) == [NOTHING]


async def test_a_tls_handshake_that_fails_costs_nothing(tmp_path: Path) -> None:
    async with plain_server() as port:
        assert await charges_at(tmp_path, f"https://127.0.0.1:{port}/v1") == [NOTHING]


@asynccontextmanager
async def plain_server() -> AsyncIterator[int]:
    """Serve something that is no TLS."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_an_error_event_in_place_of_the_first_word_is_a_refusal_where_it_says_so(tmp_path: Path) -> None:
    slow = http(200, 'data: {"error": {"message": "slow down", "code": 429}}\n\n', "text/event-stream")
    lost = http(200, 'data: {"error": {"message": "lost", "code": 502}}\n\n', "text/event-stream")
    assert await charges(tmp_path / "slow", slow) == [NOTHING]
    assert not (await charges(tmp_path / "lost", lost))[0].complete


async def test_a_line_of_a_stream_that_cannot_be_read_is_no_refusal(tmp_path: Path) -> None:
    lost = http(200, '{"error": "an error was encountered while running the model: unexpected EOF"}\n', "application/x-ndjson")
    assert not (await charges(tmp_path, lost, "ollama_chat/qwen"))[0].complete


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_openrouter_with_an_own_key_is_booked_with_the_provider_s_price(tmp_path: Path, stream: bool) -> None:
    usage: dict[str, Any] = {
        "prompt_tokens": 9171,
        "completion_tokens": 113,
        "total_tokens": 9284,
        "cost": 0.0018,
        "is_byok": True,
    }
    usage |= {"cost_details": {"upstream_inference_cost": 0.0360795}, "completion_tokens_details": {"reasoning_tokens": 55}}
    assert await charges(tmp_path, answered(usage, stream=stream), "openrouter/a/b", stream=stream) == [
        Charge(TokenUsage(9171, 113, reasoning=55), 37_880, complete=True)
    ]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_reported_zero_does_not_make_a_priced_call_free(tmp_path: Path, stream: bool) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "cost": 0}
    answer = answered(usage, stream=stream, x_litellm_response_cost="0")
    assert await charges(tmp_path, answer, stream=stream) == [Charge(TokenUsage(1000, 100), 1200, complete=True)]


def answered(usage: dict[str, Any], *, stream: bool, **headers: str) -> bytes:
    """Write an answer of one word."""
    if stream:
        return http(200, chat_stream({"content": "Done."}, usage=usage), "text/event-stream", **headers)
    return http(200, chat_answer("Done.", usage), **headers)
