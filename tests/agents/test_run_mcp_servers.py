"""The MCP servers of a profile: their tools are there, or the run fails; and their processes end with the run."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from openhands.sdk.mcp import MCPServer
from pydantic import SecretStr

from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome, RunEnded, ToolFinished
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import Driver, Ran, RecordingMeter, a_recipe, an_llm, driving, script, sent, text_of
from tests.support import mcp_server
from tests.support.until import until

pytestmark = pytest.mark.anyio

TOKEN = "ghp_0123456789abcdef"


class Place:
    """Runs an agent with `grep` and the given MCP servers, each of which notes its process id in a file."""

    def __init__(self, directory: Path, llm: ScriptedLLM) -> None:
        self.directory = directory
        self.llm = llm

    def server(self, name: str, *behaviour: str, tools: str = "lookup") -> MCPServer:
        env = {"TOOLS": SecretStr(tools), "TOKEN": SecretStr(TOKEN)}
        arguments = [str(mcp_server.__file__), str(self.directory / f"{name}.pid"), *behaviour]
        return MCPServer(command=sys.executable, args=arguments, env=env)

    async def run(self, servers: dict[str, MCPServer], *steps: dict[str, Any], **changes: Any) -> Ran:
        recipe = a_recipe(an_llm(self.llm.base_url), "grep", mcp_config=servers, mcp_secrets=(SecretStr(TOKEN),))
        async with driving(self.directory / "run", recipe) as driver:
            ran = await driver.run(script(*(steps or ({"content": "done"},))), **changes)
            assert not self.live_servers()
        return ran

    def tools(self, index: int = -1) -> list[str]:
        """The names of the tools in a request that the LLM got, without those of every agent."""
        names = [tool["function"]["name"] for tool in sent(self.llm, index)["tools"]]
        return sorted(set(names) - {"finish", "think", "grep"})

    def live_servers(self) -> list[int]:
        pids = [int(path.read_text()) for path in self.directory.glob("*.pid")]
        return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def place(tmp_path: Path, llm: ScriptedLLM) -> Place:
    return Place(tmp_path, llm)


def call(tool: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": tool, "arguments": {"key": "k"}}]}


def result_of_a_tool(llm: ScriptedLLM) -> str:
    return text_of(next(message for message in reversed(sent(llm)["messages"]) if message["role"] == "tool"))


async def test_an_agent_has_the_tools_of_its_server_which_ends_with_the_run(place: Place) -> None:
    ran = await place.run({"one": place.server("one")}, call("lookup"), {"content": "done"})
    assert ran.outcome == Finished("done")
    assert place.tools() == ["lookup"]
    assert "lookup with" in result_of_a_tool(place.llm)
    assert list(place.directory.glob("*.pid"))


async def test_tools_of_several_servers_have_the_names_of_their_servers(place: Place) -> None:
    servers = {name: place.server(name) for name in ("one", "two")}
    ran = await place.run(servers, call("two_lookup"), {"content": "done"})
    assert ran.outcome == Finished("done")
    assert place.tools() == ["one_lookup", "two_lookup"]
    assert "lookup with" in result_of_a_tool(place.llm)


async def test_a_tool_cannot_take_the_name_of_another_or_one_that_an_llm_refuses(place: Place) -> None:
    await place.run({"my.files": place.server("one", tools=f"grep,finish,read.file,{'x' * 80}")})
    assert place.tools() == ["my_files_finish", "my_files_grep", "read_file", "x" * 64]


async def test_two_tools_of_one_name_fail_the_run(place: Place) -> None:
    ran = await place.run({"one": place.server("one", tools="a.b,a_b")})
    assert isinstance(ran.outcome, Failed)
    assert ran.code == "agent_error"


async def test_a_server_without_tools_is_ended_too(place: Place) -> None:
    ran = await place.run({"one": place.server("one", tools="")})
    assert ran.outcome == Finished("done")


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (MCPServer(command="/no/such-server"), "No such file or directory: /no/such-server"),
        (MCPServer(command="sh", args=["-c", f"echo first >&2; echo 'no {TOKEN}' >&2; exit 3"]), "no <secret-hidden>"),
        (MCPServer(url=f"http://127.0.0.1:9/mcp?token={TOKEN}"), "All connection attempts failed"),
    ],
    ids=["no such program", "exits at once", "not reachable"],
)
async def test_a_server_that_does_not_start_fails_the_run_with_its_name(place: Place, server: MCPServer, reason: str) -> None:
    ran = await place.run({"good": place.server("good"), "bad": server})
    assert isinstance(ran.outcome, Failed)
    assert ran.code == "agent_error"
    message = ran.outcome.error.message
    assert "'bad'" in message
    assert reason in message
    assert TOKEN not in message
    assert not place.llm.traffic.requests


@pytest.mark.parametrize(
    ("behaviour", "mark", "way", "outcome"),
    [
        ("hang", "slow.pid", "cancel", Cancelled),
        ("hang", "slow.pid", "deadline", Limited),
        ("stay", "slow.called", "cancel", Cancelled),
    ],
    ids=["cancel of a start", "deadline of a start", "cancel of a call"],
)
async def test_a_cancel_and_the_deadline_end_a_server_that_does_not_answer(
    place: Place, behaviour: str, mark: str, way: str, outcome: type[Outcome]
) -> None:
    async def cancel(driver: Driver, run: AdmittedRun) -> None:
        await until(lambda: (place.directory / mark).exists())
        await driver.runner.cancel(run.record.id)

    recipe = a_recipe(an_llm(place.llm.base_url), mcp_config={"slow": place.server("slow", behaviour)})
    async with driving(place.directory / "run", recipe) as driver:
        run = driver.admitted(script(call("lookup")), timeout_s=1.0 if way == "deadline" else 30.0)
        async with asyncio.TaskGroup() as tasks:
            if way == "cancel":
                tasks.create_task(cancel(driver, run))
            events = [event async for event in driver.runner.run(run, RecordingMeter())]
        assert not place.live_servers()
    ended = events[-1]
    assert isinstance(ended, RunEnded)
    assert isinstance(ended.outcome, outcome)


async def test_a_huge_result_is_truncated_in_the_middle(place: Place) -> None:
    await place.run({"one": place.server("one", "flood")}, call("lookup"), {"content": "done"})
    result = result_of_a_tool(place.llm)
    assert "response clipped" in result
    assert len(result) <= 30_000


async def test_a_server_that_dies_in_a_run_is_an_error_of_each_later_call(place: Place) -> None:
    ran = await place.run({"one": place.server("one", "die")}, call("lookup"), call("lookup"), {"content": "done"})
    assert ran.outcome == Finished("done")
    assert [event.is_error for event in ran.events if isinstance(event, ToolFinished)] == [True, True]


async def test_tools_that_a_server_offers_later_reach_the_agent(place: Place) -> None:
    await place.run({"one": place.server("one", "grow")}, call("lookup"), call("grep"), {"content": "done"})
    assert place.tools(0) == ["lookup"]
    assert place.tools() == ["extra", "lookup"]
