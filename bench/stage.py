"""A lean HTTP client for the processes under test.

It uses aiohttp, on which LiteLLM depends: on two cores, the client's CPU time is missing to the server.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import psutil

from bench.processes import LLM_KEY, MODEL, Processes

_CONVERSATION: Final = "X-OpenHands-ServerConversation-ID"
_POLL_S: Final = 0.01
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a measurement needs; owned by `open_stage`."""

    session: aiohttp.ClientSession
    processes: Processes
    gateway: psutil.Process

    async def ask(self, agent: str, task: str, *, conversation_id: str | None = None) -> str:
        """Run an agent once, not streamed, and return the conversation's id.

        Raises:
            RuntimeError: it did not answer.
        """
        async with self.post(agent, task, conversation_id=conversation_id) as response:
            body = await response.json()
            if response.status != 200 or not body["choices"][0]["message"]["content"]:
                raise RuntimeError(f"{response.status}: {body}")
            return response.headers[_CONVERSATION]

    def post(
        self, agent: str, task: str, *, stream: bool = False, conversation_id: str | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Begin a chat completion."""
        body = {"model": f"openhands_{agent}", "messages": [{"role": "user", "content": task}], "stream": stream}
        headers = {"Authorization": f"Bearer {self.processes.key}"}
        if conversation_id:
            headers[_CONVERSATION] = conversation_id
        return self.session.post(f"{self.processes.url}/v1/chat/completions", json=body, headers=headers)

    def post_to_llm(self, task: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Begin a streamed chat completion of the LLM itself, without the gateway."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": task}], "stream": True}
        return self.session.post(
            f"{self.processes.llm_url}/chat/completions", json=body, headers={"Authorization": f"Bearer {LLM_KEY}"}
        )

    async def traffic(self) -> Mapping[str, int]:
        """Return the counters of what the LLM has received so far."""
        async with self.session.get(f"{self.processes.llm_url.removesuffix('/v1')}/traffic") as response:
            counters: Mapping[str, int] = await response.json()
            return counters

    @property
    def memory_mb(self) -> float:
        """Resident memory of the gateway's process, without its children."""
        return float(self.gateway.memory_info().rss) / 2**20


@asynccontextmanager
async def open_stage(processes: Processes) -> AsyncIterator[Stage]:
    """Connect to the processes; the gateway need not be up yet."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        yield Stage(session, processes, psutil.Process(processes.gateway_pid))


async def seconds_until_200(stage: Stage, path: str) -> float:
    """Poll a path of the gateway until it answers 200; return the seconds since the gateway's process was started.

    Raises:
        RuntimeError: the gateway has ended; the message contains the end of its log.
        TimeoutError: it takes too long.
    """
    async with asyncio.timeout(_PATIENCE_S):
        while not await _answers(stage, path):
            if not stage.gateway.is_running() or stage.gateway.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(f"the gateway has ended:\n{stage.processes.gateway_log.read_text()[-4000:]}")
            await asyncio.sleep(_POLL_S)
    return time.monotonic() - stage.processes.started_at


async def _answers(stage: Stage, path: str) -> bool:
    try:
        async with stage.session.get(f"{stage.processes.url}{path}") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False
