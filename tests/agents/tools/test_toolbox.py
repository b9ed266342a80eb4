"""Which tools an agent gets, and that one run leaves nothing for the next."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from openhands.sdk import Agent, LocalConversation, Tool
from openhands.sdk.testing import TestLLM

from a2a_gateway.agents.recipe import ToolSpec
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.errors import ConfigurationError
from a2a_gateway.runs.model import RunId
from delegate_tool.binding import BoundClient
from delegate_tool.protocol.context import DelegationBinding

pytestmark = pytest.mark.anyio
type StartAgent = Callable[..., AbstractContextManager[Any]]
ALL = tuple(ToolSpec(name) for name in ("terminal", "file_editor", "grep", "glob", "task_tracker", "delegate"))


async def test_an_agent_has_the_listed_tools_under_their_public_names(toolbox: LocalToolbox, workspace: Path) -> None:
    agent = Agent(llm=TestLLM.from_messages([]), tools=toolbox.specs(ALL, may_delegate=False), include_default_tools=[])
    conversation: Any = LocalConversation(agent=agent, workspace=str(workspace), visualizer=None)
    with toolbox.bind(conversation.id, run_id=RunId("run"), workspace_dir=str(workspace), delegation=None):
        conversation.send_message("go")
    tools = conversation.agent.tools_map
    assert set(tools) == {"terminal", "file_editor", "grep", "glob", "task_tracker"}
    assert {type(tool.executor).__module__.partition(".")[0] for name, tool in tools.items() if name != "task_tracker"} == {
        "a2a_gateway"
    }
    conversation.close()


async def test_only_a_run_that_may_delegate_has_the_delegation_tool(toolbox: LocalToolbox) -> None:
    assert Tool(name="delegate", params={"withholdable": True}) in toolbox.specs(ALL, may_delegate=True)
    assert Tool(name="delegate") not in toolbox.specs(ALL, may_delegate=False)


@pytest.mark.parametrize(
    "spec", [ToolSpec("browser"), ToolSpec("terminal", {"shell_path": "/bin/evil"}), ToolSpec("grep", {"x": 1})]
)
async def test_an_unknown_tool_or_parameter_is_refused(toolbox: LocalToolbox, spec: ToolSpec) -> None:
    with pytest.raises(ConfigurationError):
        toolbox.specs([spec], may_delegate=True)


async def test_a_conversation_outside_a_run_gets_no_tool(toolbox: LocalToolbox, workspace: Path) -> None:
    agent = Agent(llm=TestLLM.from_messages([]), tools=toolbox.specs([ToolSpec("terminal")], may_delegate=False))
    conversation: Any = LocalConversation(agent=agent, workspace=str(workspace), visualizer=None)
    with pytest.raises(LookupError):
        conversation.send_message("go")
    conversation.close()


async def test_a_task_list_stays_in_memory(start_agent: StartAgent, workspace: Path) -> None:
    plan = {"command": "plan", "task_list": [{"title": "one", "notes": "", "status": "todo"}]}
    with start_agent(("task_tracker", plan), ("task_tracker", {"command": "view"})) as run:
        seen = await run.observations()
    assert "one" in seen[1]
    assert not any(workspace.iterdir())  # noqa: ASYNC240  # nobody else uses this loop


async def test_links_and_start_files_that_one_run_plants_do_nothing_in_the_next(
    start_agent: StartAgent, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("sesame")
    planted = f"""
        ln -s {tmp_path}/secret link; ln -s {tmp_path} linked; mkfifo fifo
        for file in ~/.bashrc ~/.bash_profile .bashrc .profile; do echo 'echo PLANTED; touch {tmp_path}/ran' > $file; done
        mkdir .git; printf '[core]\\n\\tfsmonitor = touch {tmp_path}/ran\\n' > ~/.gitconfig; export BASH_ENV=$PWD/.bashrc
    """
    with start_agent(("terminal", {"command": planted})) as run:
        await run.observations()
    looking = [
        ("terminal", {"command": "ls -A ~; echo ${BASH_ENV-none}"}),
        ("file_editor", {"command": "view", "path": f"{workspace}/link"}),
        ("file_editor", {"command": "view", "path": f"{workspace}/linked/secret"}),
        ("file_editor", {"command": "view", "path": f"{workspace}/fifo"}),
        ("grep", {"pattern": "sesame"}),
        ("glob", {"pattern": "**/secret"}),
    ]
    with start_agent(*looking) as run:
        seen = await run.observations()
    assert len(seen) == len(looking)
    assert seen[0].startswith("tmp\nnone\n")
    assert "PLANTED" not in "".join(seen)
    assert "sesame" not in "".join(text.replace("'sesame'", "") for text in seen)
    assert not (tmp_path / "ran").exists()


async def test_a_run_token_is_in_no_parameter_and_no_event(toolbox: LocalToolbox, workspace: Path) -> None:
    import openai

    binding = DelegationBinding(
        token="run-token-sesame", base_url="http://127.0.0.1:9/v1", run_id="r", self_agent="openhands_lead"
    )
    async with openai.AsyncOpenAI(api_key="unused", base_url="http://127.0.0.1:9/v1") as shared:
        bound = BoundClient.for_run(binding, shared, asyncio.get_running_loop())
        agent = Agent(llm=TestLLM.from_messages([]), tools=toolbox.specs(ALL, may_delegate=True))
        conversation: Any = LocalConversation(agent=agent, workspace=str(workspace), visualizer=None, conversation_id=uuid4())
        with toolbox.bind(conversation.id, run_id=RunId("run"), workspace_dir=str(workspace), delegation=bound):
            conversation.send_message("go")
        assert "delegate" in conversation.agent.tools_map
        text = conversation.agent.model_dump_json() + "".join(event.model_dump_json() for event in conversation.state.events)
        assert "sesame" not in text
        conversation.close()


async def test_a_machine_without_bash_is_told_so(tmp_path: Path) -> None:
    box = LocalToolbox(
        tmp_path / "shells", shell_pool_size=1, environ={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")}
    )
    with pytest.raises(ConfigurationError) as refused:
        async with box:
            pass
    assert "bash" in refused.value.message
