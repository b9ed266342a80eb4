"""A toolbox with real shells, and real SDK agents whose LLM is a script."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

import pytest
from openhands.sdk import Agent, AgentContext, LocalConversation, Message, TextContent
from openhands.sdk.event import ObservationEvent
from openhands.sdk.llm import MessageToolCall
from openhands.sdk.testing import TestLLM

from a2a_gateway.agents.recipe import ToolSpec
from a2a_gateway.agents.tools.toolbox import LocalToolbox
from a2a_gateway.runs.model import RunId

type Call = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class AgentRun:
    """A conversation with an agent that makes the tool calls that it was given, one a turn, and then says that it is done."""

    conversation: Any  # the SDK's decorators hide the types of its methods

    async def observations(self) -> list[str]:
        """Run it, and return what the LLM was told about each call."""
        await self.conversation.arun()
        seen = [event.observation for event in self.conversation.state.events if isinstance(event, ObservationEvent)]
        return ["".join(part.text for part in each.to_llm_content if isinstance(part, TextContent)) for each in seen]


type StartAgent = Callable[..., AbstractContextManager[AgentRun]]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
async def toolbox(tmp_path: Path) -> AsyncIterator[LocalToolbox]:
    async with LocalToolbox(tmp_path / "shells", shell_pool_size=1, environ=dict(os.environ)) as box:
        yield box


@pytest.fixture
def start_agent(toolbox: LocalToolbox, workspace: Path) -> StartAgent:
    @contextmanager
    def start(*calls: Call, params: Mapping[str, Mapping[str, object]] | None = None) -> Iterator[AgentRun]:
        specs = [ToolSpec(name, (params or {}).get(name, {})) for name in dict.fromkeys(name for name, _ in calls)]
        agent = Agent(
            llm=TestLLM.from_messages(_turns(calls)),
            tools=toolbox.specs(specs, may_delegate=False),
            agent_context=AgentContext(current_datetime=None),
        )
        conversation: Any = LocalConversation(agent=agent, workspace=str(workspace), visualizer=None)
        try:
            with toolbox.bind(conversation.id, run_id=RunId("run"), workspace_dir=str(workspace), delegation=None):
                conversation.send_message("go")
            yield AgentRun(conversation)
        finally:
            conversation.close()

    return start


def _turns(calls: Sequence[Call]) -> list[Message | Exception]:
    turns: list[Message | Exception] = [
        Message(
            role="assistant",
            content=[],
            tool_calls=[MessageToolCall(id=f"call-{n}", name=name, arguments=dumps(arguments), origin="completion")],
        )
        for n, (name, arguments) in enumerate(calls)
    ]
    return [*turns, Message(role="assistant", content=[TextContent(text="done")])]
