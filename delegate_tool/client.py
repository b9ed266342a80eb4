"""The delegation client: one delegation is one streamed chat completion. Also the plain-Python `delegate` for scripts.

Below it stand `context` (headers), `reply` (what comes back) and `failures` (what goes wrong); above it the tool's executor.
Works against any OpenAI-compatible endpoint and knows nothing of OpenHands.
"""

import asyncio
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Self

import httpx
import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from delegate_tool.failures import Failure, explain, overdue
from delegate_tool.http_client import proxying_client
from delegate_tool.masking import Secrets
from delegate_tool.protocol.context import (
    CONTEXT_HEADING,
    DelegationContext,
    Narration,
    decode_body,
    encode_headers,
)
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.result import DelegationResult
from delegate_tool.protocol.text import well_formed
from delegate_tool.protocol.values import can_be_key
from delegate_tool.reply import Reply

BASE_URL_ENV: Final = "A2A_BASE_URL"
API_KEY_ENV: Final = "A2A_API_KEY"
DEFAULT_TIMEOUT_S: Final = 1800.0
_CONNECT_TIMEOUT_S: Final = 5.0
_CANCEL_TIMEOUT_S: Final = 2.0
_MAX_GRACE_S: Final = 5.0


class EndpointMissing(ValueError):
    """It is not said where to delegate to, or as whom."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to delegate to, and as whom.

    Attributes:
        base_url: as the OpenAI client wants it, so ending in `/v1`.
    """

    base_url: str
    api_key: str = field(repr=False)

    @classmethod
    def find(cls, base_url: str | None = None, api_key: str | None = None, api_key_env: str = API_KEY_ENV) -> Self:
        """Take what is given, and the rest from the environment.

        Raises:
            EndpointMissing: neither has it.
        """
        base_url = base_url or os.environ.get(BASE_URL_ENV)
        if not base_url:
            raise EndpointMissing(
                f"No endpoint to delegate to: set {BASE_URL_ENV} (such as http://127.0.0.1:8420/v1) or base_url."
            )
        api_key = (api_key or os.environ.get(api_key_env, "")).strip()
        if not api_key:
            raise EndpointMissing(f"No key for {base_url}: set {api_key_env}.")
        if not can_be_key(api_key):
            raise EndpointMissing(f"The key for {base_url} has characters that none can have: see {api_key_env}.")
        return cls(base_url, api_key)

    def connect(self) -> AsyncOpenAI:
        """Make a client for it; the caller closes it. Building one takes 0.1 s, so share it between delegations."""
        return AsyncOpenAI(base_url=self.base_url, api_key=self.api_key, http_client=proxying_client())


@dataclass(frozen=True, slots=True)
class Delegation:
    """One call of another agent: whom, for what, and under which limits.

    Attributes:
        agent: model id at the endpoint.
        context: facts that the agent needs beside the task, if they are not in the task.
        limits: must hold an idempotency key if the client may retry, so that no agent runs twice unmarked.
    """

    agent: str
    task: str
    context: str | None = None
    limits: DelegationContext = field(default_factory=DelegationContext)

    @property
    def prompt(self) -> str:
        """The one user message that the agent gets."""
        prompt = f"{self.task}{CONTEXT_HEADING}{self.context}" if self.context and self.context.strip() else self.task
        return well_formed(prompt)


async def call_agent(
    client: AsyncOpenAI, delegation: Delegation, *, time_left_s: float | None = None, is_from_outside: bool = True
) -> DelegationResult:
    """Delegate and wait for the end. What goes wrong remotely is a result, not an exception; cancelling closes the connection.

    Retries are the OpenAI client's: with the same idempotency key, only before a response has begun, and not where the endpoint
    forbids it (`x-should-retry`).

    Args:
        time_left_s: the caller's own time; waiting ends there at the latest.
        is_from_outside: no run of the gateway stands behind the call, with whose end it would end too. So a cancelled call is
            cancelled at the gateway by name, which otherwise waits a while for a lost client to come back.
    """
    started, reply = time.monotonic(), Reply(Secrets.of([client.api_key]))
    timeout_s = _least(delegation.limits.timeout_s, time_left_s)
    failure: Failure | None = None
    try:
        async with asyncio.timeout(_patience_s(timeout_s)):
            await reply.read(await _send(client, delegation, _patience_s(timeout_s)))
    except asyncio.CancelledError:
        if is_from_outside:
            await _cancel_by_key(client, delegation.limits.idempotency_key)
        raise
    except TimeoutError:
        failure = overdue(timeout_s)
    except (openai.APIError, httpx.HTTPError, ValueError) as error:
        failure = explain(error, reply.secrets)
    return replace(reply.conclude(failure), seconds=time.monotonic() - started)


async def _cancel_by_key(client: AsyncOpenAI, key: str | None) -> None:
    """Cancel what an idempotency key stands for, if the endpoint knows how; the connection is closed either way."""
    if key is None:
        return
    options = client.with_options(max_retries=0, timeout=_CANCEL_TIMEOUT_S)
    with suppress(openai.APIError, httpx.HTTPError):
        await options.post("/runs/cancel", cast_to=object, options={"headers": {Header.IDEMPOTENCY_KEY: key}})


async def adelegate(
    agent: str,
    task: str,
    *,
    context: str | None = None,
    conversation_id: str | None = None,
    budget_usd: str | int | float | Decimal | None = None,
    timeout_s: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    client: AsyncOpenAI | None = None,
) -> DelegationResult:
    """Call an agent from a script and wait for its answer.

    Args:
        agent: model id, such as `openhands_reviewer`; `self` only where the credential is a run's token.
        conversation_id: of an earlier result, to go on with the same agent.
        budget_usd: cap on the run and all its descendants, at most six decimal places.
        base_url: default is the environment's `A2A_BASE_URL`; `api_key` likewise `A2A_API_KEY`.
        client: used instead of a new one, and left open.

    Raises:
        EndpointMissing: no base URL or key is given or in the environment.
        ContextError: a limit or the conversation id is malformed.
    """
    limits = read_limits(conversation_id=conversation_id, budget_usd=budget_usd, timeout_s=timeout_s)
    delegation = Delegation(agent, task, context, replace(limits, idempotency_key=uuid.uuid4().hex))
    if client is not None:
        return await call_agent(client, delegation)
    async with Endpoint.find(base_url, api_key).connect() as own:
        return await call_agent(own, delegation)


def delegate(
    agent: str,
    task: str,
    *,
    context: str | None = None,
    conversation_id: str | None = None,
    budget_usd: str | int | float | Decimal | None = None,
    timeout_s: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
) -> DelegationResult:
    """Do what `adelegate` does, from code that has no event loop.

    Raises:
        RuntimeError: there is one in this thread, which would stand still meanwhile.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("An event loop runs in this thread: use `await adelegate(…)` here.")
    return asyncio.run(
        adelegate(
            agent,
            task,
            context=context,
            conversation_id=conversation_id,
            budget_usd=budget_usd,
            timeout_s=timeout_s,
            base_url=base_url,
            api_key=api_key,
        )
    )


def read_limits(
    *,
    conversation_id: str | None = None,
    budget_usd: str | int | float | Decimal | None = None,
    timeout_s: float | None = None,
) -> DelegationContext:
    """Read what a caller asks for, with the syntax of the headers. The agent's narration is not asked for, only its answer.

    Raises:
        ContextError: a value is malformed.
    """
    asked = {
        "conversation_id": conversation_id,
        "budget_usd": f"{budget_usd:f}" if isinstance(budget_usd, Decimal) else budget_usd,
        "timeout_s": timeout_s,
    }
    return replace(decode_body(asked, param=""), narration=Narration.NONE)


async def _send(client: AsyncOpenAI, delegation: Delegation, patience_s: float) -> AsyncStream[ChatCompletionChunk]:
    return await client.chat.completions.create(
        model=delegation.agent,
        messages=[{"role": "user", "content": delegation.prompt}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=encode_headers(delegation.limits),
        # Plain endpoints send no heartbeat, so silence alone is no reason to give up.
        timeout=httpx.Timeout(patience_s, connect=min(_CONNECT_TIMEOUT_S, patience_s)),
    )


def _patience_s(timeout_s: float) -> float:
    # A little longer than the agent's own time: so it is the endpoint that ends the run, and what it has to show still arrives.
    return timeout_s + min(_MAX_GRACE_S, 0.1 * timeout_s)


def _least(asked_s: float | None, left_s: float | None) -> float:
    known = [seconds for seconds in (asked_s, left_s) if seconds is not None]
    return max(0.001, min(known)) if known else DEFAULT_TIMEOUT_S
