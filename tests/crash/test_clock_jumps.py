"""The machine's clock jumps while runs are under way: a suspended machine wakes up, or its time is set right."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.model import RunId, RunState
from a2a_gateway.stores import SpendBy
from a2a_gateway.testing.script import Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DAY, HOUR = 86_400.0, 3600.0
PRICED = "openhands_priced"
PROFILE = """---
name: priced
description: Works.
tools: [delegate]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""


class Wall:
    """A wall clock that a test may move."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return time.time() + self.offset


@pytest.fixture(scope="module")
def wall() -> Wall:
    return Wall()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, wall: Wall) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    home = tmp_path_factory.mktemp("gateway")
    with scripted_gateway(home, {"priced": PROFILE}, clock=SystemClock(wall.now), shell_pool_size=0) as pair:
        yield pair


@contextmanager
def jump(wall: Wall, seconds: float) -> Iterator[None]:
    """Let the wall clock jump, and back in the end."""
    wall.offset += seconds
    try:
        yield
    finally:
        wall.offset -= seconds


def call(gateway: GatewayUnderTest, name: str, run_id: RunId) -> Any:
    """Ask the gateway's ledger."""
    ledger = gateway.running.gateway.started.result().store.ledger
    return gateway.portal.call(getattr(ledger, name), run_id)


@pytest.mark.parametrize("seconds", [DAY, -HOUR], ids=["a-day-forward", "an-hour-back"])
async def test_runs_go_on_delegate_and_have_the_time_that_they_had(
    pair: tuple[GatewayUnderTest, ScriptedLLM], wall: Wall, seconds: float
) -> None:
    gateway, llm = pair
    below = delegation("self", f"Below {seconds}.", Step(content="below"))
    steps = (Step(tool_calls=(below,), gate=f"jump {seconds}"), Step(content="done"))
    async with gateway.client() as client:
        asking = asyncio.create_task(
            client.chat.completions.create(model=PRICED, messages=[user("Go.", *steps)], extra_headers={"X-A2A-Timeout": "60"})
        )
        await llm.wait_until(lambda traffic: traffic.waiting_at(f"jump {seconds}") == 1)
        with jump(wall, seconds):
            llm.open_gate(f"jump {seconds}")
            answer = await asking
            above, child = call(gateway, "subtree", RunId(answer.id.removeprefix("chatcmpl-")))
    assert answer.choices[0].message.content == "done"
    assert (above.state, child.state) == (RunState.FINISHED, RunState.FINISHED)
    assert 50 < child.limits.timeout_s < 60
    assert child.deadline_at < above.deadline_at
    assert 0 <= above.ended_at - above.created_at < 60


async def test_a_conversation_that_is_waited_for_is_still_had_after_a_jump(
    pair: tuple[GatewayUnderTest, ScriptedLLM], wall: Wall
) -> None:
    gateway, llm = pair
    async with gateway.client() as client:
        first = await client.chat.completions.with_raw_response.create(model=PRICED, messages=[user("One.", Step("1"))])
        going_on = {"X-OpenHands-ServerConversation-ID": first.headers["x-openhands-serverconversation-id"]}

        async def go_on(*steps: Step) -> str | None:
            messages = [user("More.", *steps)]
            answer = await client.chat.completions.create(model=PRICED, messages=messages, extra_headers=going_on)
            return answer.choices[0].message.content

        second = asyncio.create_task(go_on(Step("2", gate="second")))
        await llm.wait_until(lambda traffic: traffic.waiting_at("second") == 1)
        third = asyncio.create_task(go_on(Step("3")))
        with jump(wall, DAY):
            llm.open_gate("second")
            assert (await second, await third) == ("2", "3")


async def test_money_is_spent_on_the_day_that_the_wall_clock_has(pair: tuple[GatewayUnderTest, ScriptedLLM], wall: Wall) -> None:
    gateway, llm = pair
    store = gateway.running.gateway.started.result().store
    later = datetime.fromtimestamp(wall.now() + 40 * DAY, UTC).date().isoformat()
    steps = (Step(tool_calls=(delegation("missing", "x"),), gate="midnight", usage=Usage(100, 1)), Step("b", usage=Usage(200, 1)))
    async with gateway.client() as client:
        asking = asyncio.create_task(client.chat.completions.create(model=PRICED, messages=[user("Go.", *steps)]))
        await llm.wait_until(lambda traffic: traffic.waiting_at("midnight") == 1)
        with jump(wall, 40 * DAY):
            llm.open_gate("midnight")
            await asking
    lines = await asyncio.to_thread(gateway.portal.call, store.spending.lines, SpendBy.DAY)
    assert [(line.calls, line.cost_micro_usd) for line in lines if line.name == later] == [(1, 202)]


async def test_a_gateway_that_was_idle_takes_over_the_right_time(pair: tuple[GatewayUnderTest, ScriptedLLM], wall: Wall) -> None:
    gateway, _ = pair
    async with gateway.client() as client:
        with jump(wall, DAY):
            answer = await client.chat.completions.create(model=PRICED, messages=[user("Go.", Step("done"))])
            run = call(gateway, "get_run", RunId(answer.id.removeprefix("chatcmpl-")))
            assert abs(run.created_at - wall.now()) < HOUR
