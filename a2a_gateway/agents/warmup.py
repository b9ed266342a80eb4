"""The parts of a warm-up: a run of each kind of agent before the first request.

LiteLLM imports modules at the first call, and the SDK's code paths and caches are cold. A warm-up uses the real agent, tools and
LLM class. Its LLM is an endpoint on the loopback interface, which answers every request with one word. No provider's key is sent,
and nothing is booked.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import uuid4

from pydantic import SecretStr

from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.messages import Sampling, TextPart, UserMessage
from a2a_gateway.runs.model import AdmittedRun, CallQuote, ConversationId, KeyId, RunId, RunRecord, RunState, TreeId
from a2a_gateway.runs.ports import Charge, Hold
from delegate_tool.protocol.context import Narration

_RUN_ID: Final = RunId("warm-up")
_CHUNK: Final = {"id": "warm-up", "object": "chat.completion.chunk", "created": 0, "model": "warm-up"}
_DELTA: Final = {"index": 0, "delta": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
_USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
_TIMEOUT_S: Final = 20.0


class FreeMeter:
    """Allows every call and books nothing, because warming up calls no provider."""

    async def reserve(self, quote: CallQuote) -> Hold:
        return Hold(uuid4().hex, _RUN_ID)

    async def escrow(self) -> Hold:
        return Hold(uuid4().hex, _RUN_ID)

    def follow(self, hold: Hold, used_micro_usd: Callable[[], int]) -> None:
        """Ignore the progress of a call, because nothing is booked after a crash."""

    async def settle(self, hold: Hold, charge: Charge) -> None:
        """Book nothing."""

    async def note_remote(self, remote_run_id: str) -> None:
        """Record nothing."""


def warm_up_recipe(recipe: AgentRecipe, base_url: str) -> AgentRecipe:
    """Return a recipe whose LLM is the endpoint of the warm-up, over chat completions and without its real credentials."""
    llm = recipe.llm.model_copy(
        update={
            "model": "openai/warm-up",
            "base_url": base_url,
            "api_key": SecretStr("warm-up"),
            "extra_headers": None,
            "litellm_extra_body": {},
            "num_retries": 1,
            "api_mode": "chat",
        }
    )
    return replace(recipe, llm=llm.with_parameters({}), condenser_llm=None, mcp_config={})


def warm_up_run(workspace_dir: str) -> AdmittedRun:
    """Return the run that a warm-up executes."""
    now = time.time()
    record = RunRecord(
        id=_RUN_ID,
        tree_id=TreeId(_RUN_ID),
        parent_id=None,
        key_id=KeyId(_RUN_ID),
        agent=_RUN_ID,
        depth=0,
        state=RunState.RUNNING,
        limits=Limits(max_turns=2),
        deadline_at=now + _TIMEOUT_S,
        task_hash="",
        conversation_id=ConversationId(str(uuid4())),
        created_at=now,
    )
    messages = (UserMessage((TextPart("Answer: ok"),)),)
    return AdmittedRun(record, "", messages, Sampling(), None, Narration.LIVE, workspace_dir, _TIMEOUT_S)


@asynccontextmanager
async def serve_warm_up_llm() -> AsyncIterator[str]:
    """Serve the LLM of a warm-up; yield its base URL."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next((line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length:")), b"0")
    await reader.readexactly(int(length))
    chunks = ({**_CHUNK, "choices": [_DELTA]}, {**_CHUNK, "choices": [], "usage": _USAGE})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body.encode())
    await writer.drain()
    writer.close()
