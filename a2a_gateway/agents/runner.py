"""Execute admitted runs in this process. Implements `runs.ports.Runner`, one `Execution` for each run.

Owns what runs share: threads, HTTP connections, and the list of live runs.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import anyio
import httpx
from openai import AsyncOpenAI

from a2a_gateway.agents.conversation_builder import Toolbox
from a2a_gateway.agents.execution import Execution, Resources
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.litellm_clients import close_llm_clients
from a2a_gateway.agents.warmup import FreeMeter, serve_warm_up_llm, warm_up_recipe, warm_up_run
from a2a_gateway.runs.events import RunnerEvent
from a2a_gateway.runs.model import AdmittedRun, RunId
from a2a_gateway.runs.ports import Meter
from delegate_tool.http.client import direct_client


class AgentRunner:
    """Runs agents of the OpenHands SDK while the async context manager is open.

    Args:
        recipe: returns the recipe of a profile by name; raises `ModelNotFound`.
        tool_threads: the number of threads for tools. A tool that delegates keeps its thread until its child has ended, so it
            must be larger than the number of delegations, at all depths, that can wait at the same time.
        gateway_transport: how delegations reach the gateway, if not over the network.
    """

    def __init__(
        self,
        recipe: Callable[[str], AgentRecipe],
        toolbox: Toolbox,
        checker: SchemaChecker,
        *,
        tool_threads: int = 256,
        gateway_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._recipe = recipe
        self._toolbox = toolbox
        self._checker = checker
        self._tool_threads = tool_threads
        self._gateway_transport = gateway_transport
        self._live: dict[RunId, Execution] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close_llm_clients)
            threads = ThreadPoolExecutor(8, thread_name_prefix="agent-setup")
            stack.callback(threads.shutdown, wait=False)
            # Each run replaces key and URL by those of its binding. The URL is this gateway's own, so no proxy is used.
            http_client = direct_client(self._gateway_transport)
            client = await stack.enter_async_context(
                AsyncOpenAI(api_key="unused", base_url="http://unused.invalid", max_retries=0, http_client=http_client)
            )
            tool_threads = ThreadPoolExecutor(self._tool_threads, thread_name_prefix="agent-tool")
            stack.callback(tool_threads.shutdown, wait=False)
            self._resources = Resources(self._toolbox, self._checker, threads, tool_threads, client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """See `Runner.run`."""
        async with aclosing(self._execute(run, self._recipe(run.profile), meter)) as events:
            async for event in events:
                yield event

    async def cancel(self, run_id: RunId) -> None:
        """See `Runner.cancel`."""
        execution = self._live.get(run_id)
        if execution is not None:
            execution.cancel()

    async def warm_up(self, profiles: Iterable[str]) -> None:
        """Run the agents of some profiles once on a local LLM, so that the first real run is as fast as the next."""
        async with serve_warm_up_llm() as base_url:
            for name in profiles:
                with TemporaryDirectory(prefix="a2a-warm-up-") as workspace:
                    recipe = warm_up_recipe(self._recipe(name), base_url)
                    async for _ in self._execute(warm_up_run(workspace), recipe, FreeMeter()):
                        pass

    async def _execute(self, run: AdmittedRun, recipe: AgentRecipe, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        events: asyncio.Queue[RunnerEvent | None] = asyncio.Queue()
        execution = Execution(run, recipe, meter, self._resources, events.put_nowait)
        self._live[run.record.id] = execution
        driving = asyncio.create_task(execution.drive(), name=f"run {run.record.id}")
        driving.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            self._live.pop(run.record.id, None)
            execution.cancel()
            with anyio.CancelScope(shield=True):
                await driving
