"""A gateway that gets a signal to end: what it still does, what it refuses, and what the clients of its runs get."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, APIStatusError, AsyncOpenAI

from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.crash.books import Books
from tests.error_texts.texts import pattern_of
from tests.support.ask import call, content_of, delegation, partial_of, user
from tests.support.gateway import scripted_gateway
from tests.support.process import GatewayProcess

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

AGENT = "openhands_priced"
PROFILE = """---
name: priced
description: Works.
tools: [delegate, terminal]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""
HALF_WAY = (Step(content="Half of it.", tool_calls=(call("terminal", command="true"),), usage=Usage(100, 1)), Step(hang=True))
"""Streams a text, and then never ends."""


@pytest.fixture(scope="module")
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM.in_thread() as llm:
        yield llm


@pytest.fixture
async def gateway(llm: ScriptedLLM, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(
        tmp_path, llm.base_url, "drain_s = 600\nshell_pool_size = 0\nmax_concurrent_runs = 4\n", is_warm=True
    )
    gateway.write_profiles(priced=PROFILE)
    yield gateway
    await asyncio.to_thread(gateway.end)


def signals(gateway: GatewayProcess, number: signal.Signals) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(number)


async def ask(client: AsyncOpenAI, *steps: Step, **options: Any) -> Any:
    return await client.chat.completions.create(model=AGENT, messages=[user("Go.", *steps)], **options)


async def read(stream: Any) -> tuple[str, APIError]:
    """Read a stream that breaks off; return its text and the error."""
    chunks = []
    with pytest.raises(APIError) as broken:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401  # those before the error are wanted
    return content_of(chunks), broken.value


async def test_sigterm_drains_and_a_second_signal_cancels_with_partial_answers(gateway: GatewayProcess, llm: ScriptedLLM) -> None:
    key = (await asyncio.to_thread(gateway.start))["first_key"]
    async with (
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client,
        httpx.AsyncClient(base_url=gateway.url) as http,
    ):
        below = delegation("self", "Below.", Step(content="below"))
        finishing = asyncio.create_task(ask(client, Step(tool_calls=(below,), gate="signal"), Step(content="done")))
        whole = asyncio.create_task(ask(client, *HALF_WAY))
        streamed = asyncio.create_task(read(await ask(client, *HALF_WAY, stream=True)))
        await llm.wait_until(
            lambda traffic: traffic.waiting_at("signal") == 1 and traffic.in_flight == 3 and traffic.received == 5
        )
        blocked = asyncio.create_task(ask(client, Step(hang=True)))
        await llm.wait_until(lambda traffic: traffic.in_flight == 4)
        queued = asyncio.create_task(ask(client))
        assert (await http.get("/ready")).status_code == 200
        signals(gateway, signal.SIGTERM)

        with pytest.raises(APIStatusError) as refused_in_queue:
            await queued
        ready = await http.get("/ready")
        with pytest.raises(APIStatusError) as refused:
            await ask(client)
        blocked.cancel()
        llm.open_gate("signal")
        finished = await finishing

        signals(gateway, signal.SIGTERM)
        with pytest.raises(APIStatusError, match=pattern_of("run_cancelled: the gateway shut down")) as cancelled:
            await whole
        said, broken = await streamed
    exit_code = await asyncio.to_thread(gateway.wait)

    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    for refusal in (refused.value, refused_in_queue.value):
        assert (refusal.status_code, refusal.code) == (503, "not_ready")
        assert refusal.response.headers["x-should-retry"] == "true"
        assert int(refusal.response.headers["retry-after"]) > 0
    assert finished.choices[0].message.content == "done"
    assert (cancelled.value.status_code, cancelled.value.code) == (499, "run_cancelled")
    assert partial_of(cancelled.value) == "Half of it."
    assert (said, broken.code, partial_of(broken)) == ("Half of it.", "run_cancelled", "Half of it.")
    assert exit_code == 0
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    names = ("drain_began", "drain_shortened", "runs_cancelled", "drain_ended", "gateway_stopped")
    assert [line["event"] for line in lines if line["event"] in names] == list(names)
    assert [line["count"] for line in lines if line["event"] == "runs_cancelled"] == [3]  # one whose client has left
    books = Books.read(gateway.database_url)
    assert (books.disagreements(), books.open_holds()) == ([], [])
    assert sorted(run["state"] for run in books.runs) == ["cancelled"] * 3 + ["finished"] * 2
    assert all(run["cost_self_micro_usd"] > 0 for run in books.runs)


async def test_a_gateway_that_is_told_to_end_while_it_starts_admits_nothing_and_ends(
    gateway: GatewayProcess, llm: ScriptedLLM
) -> None:
    process = gateway.begin()
    await gateway.answers()
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get("/ready")).json() == {"status": "starting"}
        signals(gateway, signal.SIGTERM)
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.read) == ""
    assert await asyncio.to_thread(gateway.wait) == 0
    assert Books.read(gateway.database_url).keys == []


async def test_runs_that_do_not_end_within_the_time_of_a_drain_are_cancelled(tmp_path: Path) -> None:
    with scripted_gateway(tmp_path, {"priced": PROFILE}, shell_pool_size=0) as (gateway, llm):
        async with gateway.client() as client:
            streamed = asyncio.create_task(
                read(await ask(client, Step(content="a b c", gate=Gate("never", after=2)), stream=True))
            )
            await llm.wait_until(lambda traffic: traffic.waiting_at("never") == 1)
            await asyncio.to_thread(gateway.portal.call, gateway.running.gateway.drain, 0.2)
            said, broken = await streamed
    assert (said, broken.code, partial_of(broken)) == ("a ", "run_cancelled", "a ")
