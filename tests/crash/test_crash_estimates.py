"""What calls are charged that a crash cut short while their answers streamed: about what they had used.

`KILL_ROUNDS=26` kills so often, and prints what was booked, what was really used, and what had been set aside.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from openai import APIError, AsyncOpenAI

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.stores import open_store
from a2a_gateway.testing.replies import words
from a2a_gateway.testing.script import ChatRequest, Gate, Step, text_of
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.crash.books import Books
from tests.crash.load import IN_PRICE, OUT_PRICE, profile, seeded_chance
from tests.support.ask import user
from tests.support.process import GatewayProcess
from tests.support.until import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
CALLS = 4
ANSWER = Step(tokens=4_000)


@dataclass
class HalfAnswers:
    """What the LLM answers: after how many words the answer to each task stops for ever."""

    stops: dict[str, int] = field(default_factory=dict)

    def answer(self, request: ChatRequest) -> Step:
        stop = self._stop(request)
        sent = 0 if stop == 0 else stop + 1  # the first delta is the role
        return replace(ANSWER, gate=Gate("never", after=sent))

    def used_by(self, request: ChatRequest) -> int:
        """Return what a provider would charge for a prompt and half an answer, at four bytes a token."""
        said = "".join(words(ANSWER.text or "")[: self._stop(request)])
        return request.size_bytes // 4 * IN_PRICE + len(said) // 4 * OUT_PRICE

    def _stop(self, request: ChatRequest) -> int:
        return self.stops[text_of(request.messages[-1])]


async def listen(client: AsyncOpenAI, task: str) -> None:
    with suppress(APIError, httpx.HTTPError):  # the gateway is killed
        async for _ in await client.chat.completions.create(model="openhands_writer", messages=[user(task)], stream=True):
            pass


async def killed_while_answers_stream(gateway: GatewayProcess, llm: ScriptedLLM, halves: HalfAnswers, secret: str) -> int:
    """Let calls come to where their answers stop, and what they have used be recorded; kill, and return what they have used."""
    first = llm.traffic.received + 1
    await asyncio.to_thread(gateway.start)
    client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0, timeout=60)
    listening = [asyncio.create_task(listen(client, task)) for task in halves.stops]
    try:
        await llm.wait_until(lambda traffic: traffic.waiting_at("never") == CALLS)
        used = sum(halves.used_by(request) for request in llm.traffic.requests if request.number >= first)
        await until(lambda: Books.read(gateway.database_url).presumed_charges().total() > 0.8 * used)
    finally:
        await asyncio.to_thread(gateway.end)
    await asyncio.gather(*listening)
    await client.close()
    await llm.wait_until(lambda traffic: traffic.in_flight == 0)
    return used


@pytest.mark.timeout(60 + 30 * ROUNDS)
async def test_calls_that_a_crash_cuts_short_are_charged_about_what_they_had_used(tmp_path: Path) -> None:
    chance, halves = seeded_chance(), HalfAnswers()
    with ScriptedLLM.in_thread(direct=halves.answer) as llm:
        gateway = GatewayProcess(tmp_path, llm.base_url, "shell_pool_size = 0\n", is_warm=True)
        gateway.write_profiles(writer=profile("writer", ""))
        gateway.data_dir.mkdir(parents=True)
        async with open_store(gateway.database_url, SystemClock()) as store:
            _, secret = await store.keys.create_key("reader")
        booked = used = set_aside = 0
        for number in range(ROUNDS):
            stops = [0, chance.randint(1, 50), *(chance.randint(500, 3_000) for _ in range(CALLS - 2))]
            halves.stops = {f"task {number}-{index}": stop for index, stop in enumerate(stops)}
            before = Books.read(gateway.database_url).spent().total()
            used_now = await killed_while_answers_stream(gateway, llm, halves, secret)
            set_aside_now = Books.read(gateway.database_url).holds_by_payer()[0].total()
            async with open_store(gateway.database_url, SystemClock()) as store:
                assert await store.ledger.mark_lost() == CALLS  # as the next start does
            after = Books.read(gateway.database_url)
            booked_now = after.spent().total() - before
            assert 0.8 * used_now < booked_now < 1.2 * used_now < set_aside_now / 2
            assert all(run["unknown_charges"] == 1 and run["state"] == "lost" for run in after.runs)
            assert after.disagreements() == []
            booked, used, set_aside = booked + booked_now, used + used_now, set_aside + set_aside_now
    print(f"{ROUNDS} kills, in micro-USD: {booked} booked, {used} used, {set_aside} had been set aside")
