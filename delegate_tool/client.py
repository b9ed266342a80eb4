"""The delegation client: one delegation is one streamed chat completion.

Below it stands `remote.call`, which sends, times and reads; above it the tool's executor, and `script` with `delegate`. It works
against any OpenAI-compatible endpoint and does not know OpenHands.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Self

import httpx
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
_log: Final = logging.getLogger(__name__)


class EndpointMissing(ValueError):
    """No usable endpoint or API key configured."""


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
        response_format: OpenAI's `response_format`, as it is sent.
        limits: must hold an idempotency key if the client may retry, so that no agent runs twice for one call.
    """

    agent: str
    task: str
    context: str | None = None
    limits: DelegationContext = field(default_factory=DelegationContext)
    response_format: Mapping[str, Any] | None = None

    @property
    def prompt(self) -> str:
        """The one user message that the agent gets."""
        prompt = f"{self.task}{CONTEXT_HEADING}{self.context}" if self.context and self.context.strip() else self.task
        return well_formed(prompt)


def warn_of_unenforced_budget(base_url: httpx.URL | str) -> None:
    """Log that an endpoint ignores a budget. A URL may contain a password, so only host and port are logged."""
    host = httpx.URL(base_url).netloc.decode("ascii")
    _log.warning("%s is no gateway and ignores the budget: nothing bounds what a delegation to it costs.", host)


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
    body: dict[str, Any] = {
        "model": delegation.agent,
        "messages": [{"role": "user", "content": delegation.prompt}],
        "stream_options": {"include_usage": True},
    }
    if delegation.response_format is not None:
        body["response_format"] = delegation.response_format
    try:
        failure = await call.run(lambda: call.send(body, encode_headers(limits)), timeout_s=timeout_s)
    except TimeoutError:
        failure = deadline_failure(timeout_s)
    except asyncio.CancelledError:
        if is_from_outside:
            await call.cancel()
        raise
    result = call.reply.conclude(failure)
    enforced = _is_budget_enforced(limits, call, result)
    if enforced is False:
        warn_of_unenforced_budget(client.base_url)
    return replace(result, seconds=time.monotonic() - started, budget_enforced=enforced)


def read_limits(**asked: object) -> DelegationContext:
    """Parse what a caller asks for, by the names of the `a2a` object of a body. Only the answer is requested, no narration.

    Raises:
        ContextError: a value is malformed.
    """
    return replace(decode_body({name: _as_json(value) for name, value in asked.items()}, param=""), narration=Narration.NONE)


def _as_json(value: object) -> object:
    match value:
        case Decimal():
            return f"{value:f}"
        case set() | frozenset():
            return list(value)
        case _:
            return value


def _is_budget_enforced(limits: DelegationContext, call: RemoteCall, result: DelegationResult) -> bool | None:
    if limits.budget_micro_usd is None:
        return None
    if call.reply.is_from_gateway or result.run_id is not None:
        return True
    return False if call.has_begun else None


def _shorter(asked_s: float | None, left_s: float | None) -> float:
    known = [seconds for seconds in (asked_s, left_s) if seconds is not None]
    return max(MIN_TIMEOUT_S, min(known)) if known else DEFAULT_TIMEOUT_S
