"""Runs of a real agent beside one another, and before the first."""

import asyncio

import pytest

from a2a_gateway.runs.events import Finished
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import COST, USAGE, USED, Driver, script, user

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
