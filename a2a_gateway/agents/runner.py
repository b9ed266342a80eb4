"""Executes admitted runs in this process: the `Runner` of the core.

Above it stands the run service, which knows only the port; below it one `Execution` a run. Owns what runs share: threads, and
the list of those that are live.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import anyio
from openai import AsyncOpenAI

from a2a_gateway.agents.conversation_builder import Toolbox
from a2a_gateway.agents.execution import Execution, Resources
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.sdk_patches.litellm_clients import close_llm_clients
from a2a_gateway.agents.warmup import FreeMeter, rehearsal, rehearsal_llm, rehearsal_run
from a2a_gateway.runs.events import RunnerEvent
from a2a_gateway.runs.model import AdmittedRun, RunId
from a2a_gateway.runs.ports import Meter
from delegate_tool.http.client import direct_client


class AgentRunner:
    """Runs agents of the OpenHands SDK. Use as `async with`, after all that its runs use and before what uses it.

    Args:
        recipe: finds the recipe of a profile by name; raises `ModelNotFound`.
        tool_threads: number of threads for tools. A tool that delegates holds a thread until its child has ended, so there
            must be more of them than delegations that wait at once, over all levels.
    """

    def __init__(
        self, recipe: Callable[[str], AgentRecipe], toolbox: Toolbox, checker: SchemaChecker, *, tool_threads: int = 256
    ) -> None:
        self._recipe = recipe
        self._toolbox = toolbox
        self._checker = checker
        self._tool_threads = tool_threads
        self._live: dict[RunId, Execution] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close_llm_clients)
            threads = ThreadPoolExecutor(8, thread_name_prefix="agent-setup")
            stack.callback(threads.shutdown, wait=False)
            # Every run presents its own token, at the address that its binding names: this gateway's own, so without a proxy.
            client = await stack.enter_async_context(
                AsyncOpenAI(api_key="unused", base_url="http://unused.invalid", max_retries=0, http_client=direct_client())
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
        """Run each kind of agent once against an LLM of its own, so that the first real run is not slower than the next."""
        async with rehearsal_llm() as base_url:
            for name in profiles:
                with TemporaryDirectory(prefix="a2a-warm-up-") as workspace:
                    async for _ in self._execute(rehearsal_run(workspace), rehearsal(self._recipe(name), base_url), FreeMeter()):
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
