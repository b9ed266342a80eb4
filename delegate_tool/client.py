"""The delegation client: one delegation is one streamed chat completion. Also the plain-Python `delegate` for scripts.

Below it stands `remote.call`, which sends, times and reads; above it the tool's executor. It works against any OpenAI-compatible
endpoint and does not know OpenHands.
"""

import asyncio
import os
import time
import uuid
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Self

from openai import AsyncOpenAI

from delegate_tool.http.client import proxying_client
from delegate_tool.masking import Secrets
from delegate_tool.protocol.base_url import parse_base_url
from delegate_tool.protocol.context import (
    CONTEXT_HEADING,
    DelegationContext,
    Narration,
    decode_body,
    encode_headers,
)
from delegate_tool.protocol.result import DelegationResult
from delegate_tool.protocol.text import well_formed
from delegate_tool.protocol.values import can_be_key
from delegate_tool.remote.call import MIN_TIMEOUT_S, RemoteCall
from delegate_tool.remote.failures import deadline_failure
from delegate_tool.remote.reply import Reply

BASE_URL_ENV: Final = "A2A_BASE_URL"
API_KEY_ENV: Final = "A2A_API_KEY"
DEFAULT_TIMEOUT_S: Final = 1800.0


class EndpointMissing(ValueError):
    """No endpoint or API key configured."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint to delegate to, with the API key for it.

    Attributes:
        base_url: as the OpenAI client expects it, so ending in `/v1`.
    """

    base_url: str
    api_key: str = field(repr=False)

    @classmethod
    def find(cls, base_url: str | None = None, api_key: str | None = None, api_key_env: str = API_KEY_ENV) -> Self:
        """Return the endpoint from the arguments, and from the environment where an argument is missing.

        Raises:
            EndpointMissing: the base URL or the key is in neither, or is malformed.
        """
        base_url = base_url or os.environ.get(BASE_URL_ENV)
        if not base_url:
            raise EndpointMissing(
                f"No endpoint to delegate to: set {BASE_URL_ENV} (such as http://127.0.0.1:8420/v1) or base_url."
            )
        try:
            base_url = parse_base_url(base_url)
        except ValueError as error:
            raise EndpointMissing(f"The base URL cannot be used: {error}. Check {BASE_URL_ENV} or base_url.") from None
        api_key = (api_key or os.environ.get(api_key_env, "")).strip()
        if not api_key:
            raise EndpointMissing(f"No key for {base_url}: set {api_key_env}.")
        if not can_be_key(api_key):
            raise EndpointMissing(f"The key for {base_url} has characters that no API key can have: check {api_key_env}.")
        return cls(base_url, api_key)

    def connect(self) -> AsyncOpenAI:
        """Make a client; the caller closes it. Making one takes 0.1 s, so share it between delegations."""
        return AsyncOpenAI(base_url=self.base_url, api_key=self.api_key, http_client=proxying_client())


@dataclass(frozen=True, slots=True)
class Delegation:
    """One call of another agent: which agent, which task, and under which limits.

    Attributes:
        agent: model id at the endpoint.
        context: facts that the agent needs beside the task, if they are not in the task.
        limits: must hold an idempotency key if the client may retry, so that no agent runs twice for one call.
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
    """Delegate and wait for the end. A remote failure is a result, not an exception. Cancelling closes the connection.

    The OpenAI client retries: with the same idempotency key, only before a response has begun, and not where the endpoint
    forbids it (`x-should-retry`).

    Args:
        time_left_s: time that the caller itself has left; the agent gets no more.
        is_from_outside: whether no run of the gateway makes this call. The gateway ends the children of a run with the run. From
            outside a cancelled call must be cancelled by its key, because a gateway waits a while for a lost client to come back.
    """
    started, limits = time.monotonic(), delegation.limits
    timeout_s = _shorter(limits.timeout_s, time_left_s)
    call = RemoteCall(client, limits.idempotency_key, Reply(Secrets.of([client.api_key])))
    body = {
        "model": delegation.agent,
        "messages": [{"role": "user", "content": delegation.prompt}],
        "stream_options": {"include_usage": True},
    }
    try:
        failure = await call.run(lambda: call.send(body, encode_headers(limits)), timeout_s=timeout_s)
    except TimeoutError:
        failure = deadline_failure(timeout_s)
    except asyncio.CancelledError:
        if is_from_outside:
            await call.cancel()
        raise
    return replace(call.reply.conclude(failure), seconds=time.monotonic() - started)


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
        EndpointMissing: the base URL or the key is neither given nor in the environment.
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
        RuntimeError: an event loop runs in this thread, and this call would block it.
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
    """Parse the limits that a caller asks for, with the syntax of the headers. Only the answer is requested, no narration.

    Raises:
        ContextError: a value is malformed.
    """
    asked = {
        "conversation_id": conversation_id,
        "budget_usd": f"{budget_usd:f}" if isinstance(budget_usd, Decimal) else budget_usd,
        "timeout_s": timeout_s,
    }
    return replace(decode_body(asked, param=""), narration=Narration.NONE)


def _shorter(asked_s: float | None, left_s: float | None) -> float:
    known = [seconds for seconds in (asked_s, left_s) if seconds is not None]
    return max(MIN_TIMEOUT_S, min(known)) if known else DEFAULT_TIMEOUT_S
