"""One streamed call of an agent at another endpoint: send the request, read the answer in time, cancel the run there.

Both the delegation tool (`client`) and the gateway's runner for the agents of its peers make this call. They differ in three
points, which each of them decides:

| | delegation tool | runner for peers' agents |
|---|---|---|
| attempts | the OpenAI client's own retries | its own retries, with a new credential for each attempt |
| longest silence | the whole time of the call, because plain endpoints send no heartbeat | the same; 90 s at a gateway |
| the time is over | the delegation failed | the run is cancelled at the peer, and its end counts as a limit |

The agent gets `timeout_s`. The caller waits a little longer, so that the endpoint ends the run itself and its partial answer
arrives.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk
from pydantic_core import from_json

from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.result import DelegationResult
from delegate_tool.remote.failures import NOT_SENT, Failure, explain
from delegate_tool.remote.reply import Delta, Reply

MIN_TIMEOUT_S: Final = 0.001
_CONNECT_TIMEOUT_S: Final = 5.0
_CANCEL_TIMEOUT_S: Final = 2.0
_MAX_GRACE_S: Final = 5.0

type ChunkStream = AsyncStream[ChatCompletionChunk]


@dataclass(slots=True)
class RemoteCall:
    """A call of one agent.

    Attributes:
        client: a client of the endpoint.
        idempotency_key: key of the request, by which its run can be cancelled.
        reply: what has arrived of the answer.
        max_silence_s: how long the endpoint may send nothing. None is the whole time of the call.
        has_begun: whether a response has begun.
        may_have_begun: whether an attempt that got no response may have reached the endpoint.
    """

    client: AsyncOpenAI
    idempotency_key: str | None
    reply: Reply
    max_silence_s: float | None = None
    has_begun: bool = False
    may_have_begun: bool = False

    async def run(
        self,
        send: Callable[[], Awaitable[ChunkStream]],
        *,
        timeout_s: float,
        on_response: Callable[[httpx.Response], Awaitable[None]] | None = None,
        on_delta: Callable[[Delta], None] = lambda delta: None,
    ) -> Failure | None:
        """Send the request and read the answer to its end. Return what went wrong remotely, if anything did.

        Args:
            send: sends the request by `send`, more than once where that is safe.
            on_response: called when the response begins.
            on_delta: called with each piece of the answer.

        Raises:
            TimeoutError: the answer was not complete within `timeout_s` and the grace.
        """
        try:
            async with asyncio.timeout(timeout_s + min(_MAX_GRACE_S, 0.1 * timeout_s)), await send() as stream:
                self.has_begun = True
                if on_response is not None:
                    await on_response(stream.response)
                await self.reply.read(stream, on_delta)
        except (openai.APIError, httpx.HTTPError, ValueError) as error:
            return explain(error, self.reply.secrets)
        return None

    async def send(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> ChunkStream:
        """Send the chat completion request and return its streamed response. `run` bounds the time of the whole call."""
        timeout = httpx.Timeout(self.max_silence_s, connect=_CONNECT_TIMEOUT_S)
        try:
            stream: ChunkStream = await self.client.chat.completions.create(
                **body, stream=True, extra_headers=headers, timeout=timeout
            )
        except openai.APIConnectionError as error:
            self.may_have_begun |= not isinstance(error.__cause__, NOT_SENT)
            raise
        return stream

    async def cancel(self, headers: Mapping[str, str] | None = None) -> DelegationResult:
        """Cancel the run by its idempotency key, because a gateway waits a while for a lost client to come back.

        Return what the endpoint reports of the cancelled run. If it cannot cancel a run, return what has arrived of it.
        """
        arrived = self.reply.conclude(None)
        if self.idempotency_key is None:
            return arrived
        named = {**(headers or {}), Header.IDEMPOTENCY_KEY: self.idempotency_key}
        try:
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                response = await self.client.post(
                    "/runs/cancel",
                    cast_to=httpx.Response,
                    options={"headers": named, "max_retries": 0, "timeout": _CANCEL_TIMEOUT_S},
                )
            return self.reply.conclude_run(from_json(response.content, allow_inf_nan=False)) or arrived
        except (TimeoutError, openai.APIError, httpx.HTTPError, ValueError):
            return arrived
