"""How LiteLLM's requests travel: each is sent once, and of a refusal only the beginning is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from litellm.litellm_core_utils.secret_redaction import redact_string

from a2a_gateway.agents.llm.providers.refusals import MAX_REFUSAL_BYTES
from a2a_gateway.agents.sdk_patches.litellm_transport import LLM_TRANSPORT
from a2a_gateway.agents.sdk_patches.patching import require
from a2a_gateway.runs.events import ContentDelta, Failed, Finished
from a2a_gateway.runs.model import TokenUsage
from tests.agents.driver import Driver, Ran, a_recipe, an_llm, driving, user
from tests.support.bare_llm import Answer, BareLLM, bare_llm, call, chat_answer, chat_stream, hang, http, refusal, reset

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send chat completions as a gateway does."""
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true")


MODELS = ["openai/scripted", "openai/gpt-5.4", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"]
"""Chat completions, Responses, Anthropic's messages, Gemini's."""
BROKEN_BODY = http(200, b"{", content_type="text/event-stream").replace(b"content-length: 1", b"content-length: 500")
MEGABYTE = 1_000_000


@asynccontextmanager
async def on(directory: Path, answer: Answer, model: str = MODELS[0], **changes: Any) -> AsyncIterator[tuple[BareLLM, Driver]]:
    """Open a runner on an LLM that gives this answer to each request."""
    async with bare_llm(lambda _: answer) as llm:
        template = an_llm(llm.base_url, model=model, **changes)
        async with driving(directory, a_recipe(template)) as driver:
            yield llm, driver


def message(ran: Ran) -> str:
    assert isinstance(ran.outcome, Failed)
    return ran.outcome.error.message


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_connection_that_breaks_costs_one_post_an_attempt(tmp_path: Path, model: str, stream: bool) -> None:
    async with on(tmp_path, reset, model, stream=stream) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert (len(llm.requests), ran.code) == (1, "llm_unavailable")


@pytest.mark.parametrize("own", ["true", "false"], ids=["LiteLLM's own client", "the openai package"])
@pytest.mark.parametrize(
    ("answer", "posts"),
    [
        pytest.param(reset, 3, id="reset"),
        pytest.param(b"", 3, id="closed"),
        pytest.param(b"HELLO\r\n\r\n", 3, id="no HTTP"),
        pytest.param(BROKEN_BODY, 3, id="broken body"),
        pytest.param(refusal(500, "oops"), 3, id="500"),
        pytest.param(refusal(429, "slow down"), 3, id="429"),
        pytest.param(refusal(400, "no"), 1, id="400"),
    ],
)
async def test_a_failing_call_is_posted_once_more_for_each_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, posts: int, own: str
) -> None:
    monkeypatch.setenv("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", own)
    async with on(tmp_path, answer, num_retries=3) as (llm, driver):
        await driver.run(user("Go."))
    assert len(llm.requests) == posts


async def test_an_llm_that_stays_silent_is_asked_once_where_nothing_is_retried(tmp_path: Path) -> None:
    async with on(tmp_path, hang, timeout=1) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert (len(llm.requests), ran.code) == (1, "llm_unavailable")


@pytest.mark.parametrize("model", MODELS)
async def test_a_long_wait_that_the_provider_asks_for_is_left_to_the_client(tmp_path: Path, model: str) -> None:
    busy = http(429, '{"error": {"message": "slow down"}}', retry_after="20")
    async with on(tmp_path, busy, model, num_retries=3) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert isinstance(ran.outcome, Failed)
    assert (len(llm.requests), ran.code, ran.outcome.error.retry_after_s) == (1, "llm_rate_limited", 20.0)


async def test_a_server_that_is_down_is_tried_again_whatever_wait_it_asks_for(tmp_path: Path) -> None:
    down = http(503, '{"error": "starting"}', retry_after="3600")
    async with on(tmp_path, down, num_retries=3) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert (len(llm.requests), ran.code) == (3, "llm_unavailable")
    assert message(ran).endswith(": starting")


async def test_a_short_wait_that_the_provider_asks_for_is_kept(tmp_path: Path) -> None:
    busy = http(429, '{"error": {"message": "slow down"}}', retry_after_ms="50")
    # Without what the provider asks for, the SDK would wait for an hour.
    hour: dict[str, Any] = {"retry_min_wait": 3600, "retry_max_wait": 3600, "retry_multiplier": 3600}
    async with on(tmp_path, busy, num_retries=3, **hour) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert (len(llm.requests), ran.code) == (3, "llm_rate_limited")


async def test_a_request_that_its_client_retries_is_sent_once(tmp_path: Path) -> None:
    busy = refusal(503, "overloaded")
    thought = http(200, chat_stream({"tool_calls": [call("think", thought="hm")]}, "tool_calls"), "text/event-stream")
    answers = iter([busy, thought, busy, busy, busy])
    async with (
        bare_llm(lambda _: next(answers)) as llm,
        driving(tmp_path, a_recipe(an_llm(llm.base_url, num_retries=3))) as driver,
    ):
        first = await driver.run(user("Go."), is_marked_retry=True)
        asked = len(llm.requests)
        second = await driver.run(user("Go."), is_marked_retry=True)
    assert (first.code, asked) == ("llm_unavailable", 1)
    assert (second.code, len(llm.requests) - asked) == ("llm_unavailable", 1 + 3)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("model", "transport"), [*((model, "aiohttp") for model in MODELS), (MODELS[0], "httpx")])
async def test_of_a_huge_refusal_only_the_beginning_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, transport: str, stream: bool
) -> None:
    monkeypatch.setenv("DISABLE_AIOHTTP_TRANSPORT", str(transport == "httpx"))
    sent = 0

    async def refuse_without_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b'HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\r\n{"error": {"message": "Too much: ')
        while True:  # the client closes the connection, which ends this
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with on(tmp_path, refuse_without_end, model, stream=stream) as (_, driver):
        ran = await driver.run(user("Go."))
    assert ran.code == "llm_bad_request"
    assert "Too much: xxx" in message(ran)
    assert sent < 100 * MEGABYTE


async def test_a_refusal_that_trickles_is_judged_by_what_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2a_gateway.agents.llm.providers.refusals._REFUSAL_TIMEOUT_S", 0.1)

    async def refuse_and_wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\r\n{"error": {"message": "No such model')
        await reader.read()

    async with on(tmp_path, refuse_and_wait) as (_, driver):
        ran = await driver.run(user("Go."))
    assert ran.code == "llm_not_found"
    assert message(ran).endswith("No such model")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_huge_error_inside_an_answer_is_shortened_before_it_is_matched(tmp_path: Path, stream: bool) -> None:
    error = json.dumps({"error": {"message": f"Too much: {'x' * MEGABYTE}", "code": 400}})
    answer = http(200, f"data: {error}\n\n", "text/event-stream") if stream else http(200, error)
    async with on(tmp_path, answer, stream=stream) as (_, driver):
        ran = await driver.run(user("Go."))
    assert "Too much: xxx" in message(ran)
    assert len(message(ran)) < 600


async def test_secrets_are_sought_in_the_beginning_of_an_error_only() -> None:
    with require(LLM_TRANSPORT):
        redacted = redact_string("Bearer abcdefghijklmnop " + "x" * MEGABYTE)
    assert redacted.startswith("REDACTED xxx")
    assert len(redacted) < 3 * MAX_REFUSAL_BYTES


@pytest.mark.parametrize("model", ["openai/scripted", "openrouter/a/b"])
async def test_plain_json_in_place_of_a_stream_is_read_as_the_answer(tmp_path: Path, model: str) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    async with on(tmp_path, http(200, chat_answer("Done.", usage)), model) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert llm.requests[0]["stream"] is True
    assert (ran.outcome, ran.content) == (Finished("Done."), "Done.")
    assert ran.meter.settled == [(TokenUsage(1000, 100), 1200)]


async def test_a_stream_that_is_called_json_arrives_as_a_stream(tmp_path: Path) -> None:
    seen = asyncio.Event()

    async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said, end = chat_stream({"content": "Done."}).split("\n\n", 1)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\n" + said.encode() + b"\n\n"
        )
        await seen.wait()
        writer.write(end.encode())

    async def watch(_: object, event: object) -> None:
        if isinstance(event, ContentDelta):
            seen.set()

    async with on(tmp_path, stream) as (_, driver):
        ran = await driver.run(user("Go."), watch=watch)
    assert ran.outcome == Finished("Done.")


async def test_plain_json_in_place_of_a_stream_of_responses_is_read_as_the_answer(tmp_path: Path) -> None:
    said = {"type": "output_text", "text": "Done.", "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said]}
    response = {"id": "r", "object": "response", "created_at": 0, "model": "m", "status": "completed", "output": [message]}
    async with on(tmp_path, http(200, json.dumps(response)), "openai/gpt-5.4") as (_, driver):
        ran = await driver.run(user("Go."))
    assert ran.outcome == Finished("Done.")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "slow down", "code": 429}, "llm_rate_limited"),
        ({"message": "Insufficient Balance", "code": "unpaid"}, "llm_unavailable"),
        ("Model unloaded.", "llm_not_found"),
    ],
    ids=["a status", "a word", "a text"],
)
async def test_an_error_with_status_200_is_an_error(tmp_path: Path, model: str, stream: bool, error: object, code: str) -> None:
    async with on(tmp_path, http(200, json.dumps({"error": error})), model, stream=stream, num_retries=1) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert (ran.code, len(llm.requests)) == (code, 1)


async def test_no_retry_is_made_that_cannot_help(tmp_path: Path) -> None:
    async with on(tmp_path, refusal(500, "No models loaded. Please load a model."), num_retries=3) as (llm, driver):
        ran = await driver.run(user("Go."))
    assert (ran.code, len(llm.requests)) == ("llm_not_found", 1)
