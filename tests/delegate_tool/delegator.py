"""An agent of the SDK with the delegation tool, as the tests of the tool hire it."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
from openhands.sdk import LLM, Agent, BaseConversation, LocalConversation, Tool
from openhands.sdk.event import ObservationEvent
from openhands.sdk.event.base import Event
from pydantic import SecretStr

from delegate_tool import BoundClient, register, use_binding
from delegate_tool.schema import DelegationObservation
from tests.delegate_tool import remote_endpoint as fakes
from tests.delegate_tool.remote_endpoint import RemoteEndpoint, tool_call

CODER = "openhands_coder"


class Delegator:
    """An agent with the tool, in a conversation of its own."""

    def __init__(self, endpoint: RemoteEndpoint, directory: Path, **params: Any) -> None:
        llm = LLM(
            model=f"openai/{fakes.LLM}",
            base_url=endpoint.base_url,
            api_key=SecretStr("llm-key"),
            num_retries=0,
            input_cost_per_token=0.001,
            output_cost_per_token=0.01,
        )
        agent = Agent(llm=llm, tools=[Tool(name=register(), params=params)], tool_concurrency_limit=4, system_prompt="Delegate.")
        self.conversation = LocalConversation(
            agent, directory / "workspace", persistence_dir=directory / "state", conversation_id=uuid4(), visualizer=None
        )

    @property
    def _typed(self) -> BaseConversation:
        # The SDK's tracing decorator hides the types of the methods of LocalConversation from mypy.
        return self.conversation

    @property
    def events(self) -> list[Event]:
        return list(self.conversation.state.events)

    @property
    def observations(self) -> list[DelegationObservation]:
        found = [event.observation for event in self.events if isinstance(event, ObservationEvent)]
        return [observation for observation in found if isinstance(observation, DelegationObservation)]

    def start(self, bound: BoundClient | None = None, *, in_gateway: bool = False) -> None:
        with ExitStack() as stack:
            if bound is not None or in_gateway:
                stack.enter_context(use_binding(self.conversation.id, bound))
            self._typed.send_message("Build it.")

    def run_here(self) -> None:
        self._typed.run()

    async def arun(self) -> None:
        await self._typed.arun()

    async def run(self, bound: BoundClient | None = None) -> list[DelegationObservation]:
        await anyio.to_thread.run_sync(self.start, bound)
        await self.arun()
        return self.observations

    def close(self) -> None:
        self.conversation.close()


type Hire = Callable[..., Delegator]


def call(agent: str, call_id: str = "call_0", task: str = "do it", **more: Any) -> dict[str, Any]:
    return tool_call("delegate", call_id, agent=agent, task=task, **more)
