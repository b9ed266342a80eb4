"""Run the same one-turn task in this process with the SDK alone: the floor of most ratios.

Importing this imports the SDK, so the environment must be set before (`bench.__main__`).
"""

import gc
import time
from pathlib import Path
from typing import Any

from openhands.sdk import LLM, Agent, AgentContext
from openhands.sdk.conversation.impl.local_conversation import LocalConversation
from pydantic import SecretStr

from bench.processes import LLM_KEY, MODEL, USD_PER_MTOK


class BareAgent:
    """Runs a plain agent of the SDK, streaming, one conversation per run."""

    def __init__(self, llm_url: str, workspace: Path) -> None:
        price = USD_PER_MTOK / 1_000_000
        self._llm = LLM(
            model=MODEL,
            base_url=llm_url,
            api_key=SecretStr(LLM_KEY),
            stream=True,
            input_cost_per_token=price,
            output_cost_per_token=price,
        )
        self._workspace = workspace

    async def warm_up(self) -> None:
        """Execute lazy imports, and tune the garbage collector as the gateway does."""
        for _ in range(3):
            await self.run("ok")
        gc.collect()
        gc.freeze()

    async def run(self, task: str) -> float:
        """Run a task and return the seconds that it took."""
        begin = time.perf_counter()
        llm = self._llm.model_copy()
        llm.reset_metrics()
        agent = Agent(llm=llm, tools=[], agent_context=AgentContext(system_message_suffix="Answer.", current_datetime=None))
        conversation: Any = LocalConversation(  # Any: the SDK's decorators lose signatures
            agent=agent, workspace=str(self._workspace), visualizer=None, token_callbacks=[lambda chunk: None]
        )
        conversation.send_message(task)
        await conversation.arun()
        took = time.perf_counter() - begin
        conversation.close()
        return took
