"""Revoking a key, from another process, ends at once all that it has started: streams, LLM calls, run tokens, terminals."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from openai import APIError
from openai.types.chat import ChatCompletionChunk

from a2a_gateway.runs.live import LiveRun
from a2a_gateway.testing.script import Gate, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.error_texts.texts import pattern_of
from tests.support.ask import call, content_of, delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.terminal import AGENT, PROFILE
from tests.support.until import until

pytestmark = pytest.mark.anyio
type Pair = tuple[GatewayUnderTest, ScriptedLLM]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with scripted_gateway(tmp_path_factory.mktemp("gateway"), {"worker": PROFILE}, shell_pool_size=1) as pair:
        yield pair


async def revoke(gateway: GatewayUnderTest, name: str) -> None:
    """Revoke a key as an operator does."""
    command = [sys.executable, "-m", "a2a_gateway", "keys", "revoke", name, "--data-dir", str(gateway.data_dir)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


def live_runs(gateway: GatewayUnderTest) -> list[LiveRun]:
    return list(gateway.running.gateway.started.result().service.live_runs)


async def test_a_stream_under_way_ends_with_an_error_that_says_why(pair: Pair) -> None:
    gateway, llm = pair
    _, secret = await asyncio.to_thread(gateway.create_key, "streaming")
    chunks: list[ChatCompletionChunk] = []
    async with gateway.client(key=secret) as client:
        message = user("Talk.", Step(content="one two three", gate=Gate("revoked-stream", after=2)))
        stream = await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
        with pytest.raises(APIError) as ended:
            async for chunk in stream:
                chunks.append(chunk)
                if content_of(chunks).strip() == "one":
                    await revoke(gateway, "streaming")
    await llm.wait_until(lambda traffic: traffic.in_flight == 0)
    assert ended.value.code == "run_cancelled"
    assert re.search(pattern_of("run_cancelled: the key was revoked").replace(".+?", "'streaming'"), ended.value.message)
    assert "three" not in content_of(chunks)


async def test_the_whole_tree_ends_with_its_terminals_and_makes_no_further_call(pair: Pair, tmp_path: Path) -> None:
    gateway, llm = pair
    _, secret = await asyncio.to_thread(gateway.create_key, "working")
    marker = f"703.{os.getpid()}"
    sleeping = f"touch {tmp_path}/asleep; sleep {marker}"
    child = delegation("self", "Sleep.", Step(tool_calls=(call("terminal", command=sleeping),)), Step(content="never"))
    async with gateway.client(key=secret) as client:
        steps = (Step(tool_calls=(child,)), Step(content="never"))
        asking = asyncio.create_task(client.chat.completions.create(model=AGENT, messages=[user("Delegate.", *steps)]))
        await until((tmp_path / "asleep").exists)
        before, depths = llm.traffic.received, [live.record.depth for live in live_runs(gateway)]
        await revoke(gateway, "working")
        with pytest.raises(APIError) as ended:
            await asking
    await until(lambda: not live_runs(gateway))
    await until(lambda: not any(process.info["cmdline"] == ["sleep", marker] for process in psutil.process_iter(["cmdline"])))
    assert depths == [0, 1]
    assert ended.value.code == "run_cancelled"
    assert re.search(pattern_of("run_cancelled: the key was revoked").replace(".+?", "'working'"), ended.value.message)
    assert llm.traffic.received == before


async def test_its_run_tokens_are_refused_from_that_moment_on(pair: Pair) -> None:
    gateway, llm = pair
    record, secret = await asyncio.to_thread(gateway.create_key, "minting")
    engine = gateway.running.gateway.started.result()
    async with gateway.client(key=secret) as client:
        steps = Step(content="never", gate="revoked-token")
        asking = asyncio.create_task(client.chat.completions.create(model=AGENT, messages=[user("Wait.", steps)]))
        await llm.wait_until(lambda traffic: traffic.waiting_at("revoked-token") == 1)
        (live,) = live_runs(gateway)
        async with gateway.http(key=engine.auth.tokens.mint(live.record)) as http:
            before = await http.get("/v1/runs")
            await asyncio.to_thread(gateway.portal.call, engine.store.keys.revoke, record.name)
            after = [await http.get("/v1/runs"), await _delegate(http)]
        with pytest.raises(APIError):
            await asking
    assert before.status_code == 200
    assert [answer.status_code for answer in after] == [401, 401]


async def _delegate(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={"model": AGENT, "messages": [user("More.", Step(content="never"))]})
