"""Run an agent's tools in threads of the gateway.

The SDK runs a single tool call on the event loop's default executor, which belongs to the application and may be small. A tool
that delegates keeps its thread until its child has ended. So a few nested delegations would take all threads, and wait for each
other for ever.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openhands.sdk import Agent
from openhands.sdk.agent.parallel_executor import ParallelToolExecutor
from openhands.sdk.event import ActionEvent, Event


class PooledToolExecutor(ParallelToolExecutor):
    """Runs tool calls on a given pool if the SDK names no other."""

    def __init__(self, threads: ThreadPoolExecutor, max_workers: int) -> None:
        super().__init__(max_workers)
        self._threads = threads

    async def _arun_safe(
        self,
        action: ActionEvent,
        tool_runner: Callable[[ActionEvent], list[Event]],
        tool: Any = None,
        cancel_token: Any = None,
        executor: ThreadPoolExecutor | None = None,
        span_owner: object | None = None,
    ) -> list[Event]:
        return await super()._arun_safe(action, tool_runner, tool, cancel_token, executor or self._threads, span_owner)


def use_tool_threads(agent: Agent, threads: ThreadPoolExecutor) -> None:
    """Make an agent run its tools on a pool."""
    agent._parallel_executor = PooledToolExecutor(threads, agent.tool_concurrency_limit)
