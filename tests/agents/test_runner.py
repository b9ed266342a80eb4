"""Runs of a real agent beside one another, and before the first."""

import asyncio
import gc
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from openhands.sdk import Agent, LocalConversation
from openhands.sdk.conversation.state import ConversationState
from openhands.sdk.mcp import MCPServer

from a2a_gateway.agents.execution import Execution
from a2a_gateway.agents.runner import AgentRunner
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.runs.events import Finished
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import COST, USAGE, USED, Driver, a_recipe, an_llm, script, think, user
from tests.support.until import until

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
        await until(lambda: _alive() == before)  # a thread releases its work a moment after it has reported its end
    finally:
        gc.enable()


async def test_a_run_does_not_wait_for_the_mcp_servers_of_others(llm: ScriptedLLM, tmp_path: Path) -> None:
    asked = f"read -r _; touch {tmp_path}/asked.$$; until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    wait = MCPServer(command="sh", args=["-c", asked])
    plain = a_recipe(an_llm(llm.base_url))
    recipes = {"scripted": plain, "slow": replace(plain, mcp_config={"slow": wait})}
    toolbox = LocalToolbox(tmp_path / "shells", shell_pool_size=0, environ=dict(os.environ))
    async with (
        toolbox,
        SchemaChecker() as checker,
        AgentRunner(recipes.__getitem__, toolbox, checker, tool_threads=16) as runner,
    ):
        driver = Driver(runner, str(tmp_path), plain)
        slow = [asyncio.create_task(driver.run(user("Go."), profile="slow")) for _ in range(10)]
        ran = await asyncio.create_task(driver.run(user("Go.")))
        waited = [task.done() for task in slow]
        await until(lambda: len(list(tmp_path.glob("asked.*"))) == len(slow))
        (tmp_path / "go").touch()
        await asyncio.gather(*slow)
    assert isinstance(ran.outcome, Finished)
    assert not any(waited)


def _alive() -> Counter[str]:
    large = (LocalConversation, ConversationState, Agent, Execution)
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, large))
