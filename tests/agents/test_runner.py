"""Runs of a real agent beside one another, and before the first."""

import asyncio
import gc
from collections import Counter

import pytest
from openhands.sdk import Agent, LocalConversation
from openhands.sdk.conversation.state import ConversationState

from a2a_gateway.agents.execution import Execution
from a2a_gateway.runs.events import Finished
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import COST, USAGE, USED, Driver, script, think, user

pytestmark = pytest.mark.anyio


async def test_runs_at_the_same_time_keep_their_words_and_their_costs_apart(driver: Driver) -> None:
    gate = {"name": "together", "opens_at": 8}
    runs = [driver.run(script({"content": f"answer {number}", "gate": gate, "usage": USAGE})) for number in range(8)]
    ran = await asyncio.gather(*runs)
    assert [one.outcome for one in ran] == [Finished(f"answer {number}") for number in range(8)]
    assert [one.meter.settled for one in ran] == [[(USED, COST)]] * 8


async def test_warming_up_calls_no_provider_and_leaves_the_runner_ready(driver: Driver, llm: ScriptedLLM) -> None:
    await driver.runner.warm_up(["scripted"])
    assert llm.traffic.received == 0
    assert (await driver.run(user("hi"))).outcome == Finished("ok")


async def test_what_a_run_has_used_is_gone_with_its_end_without_a_garbage_collection(driver: Driver) -> None:
    gc.collect()
    gc.disable()
    try:
        before = _alive()
        ran = await driver.run(script(think(), {"content": "done"}))
        assert ran.outcome == Finished("done")
        async with asyncio.timeout(10):
            # A thread lets go of its work a moment after it has said that it is done, and nothing tells when.
            while _alive() != before:  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        gc.enable()


def _alive() -> Counter[str]:
    large = (LocalConversation, ConversationState, Agent, Execution)
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, large))
