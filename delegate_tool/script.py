"""Delegation from a script: `delegate`, and `adelegate` for asyncio."""

import asyncio
import uuid
from collections.abc import Collection
from decimal import Decimal

from openai import AsyncOpenAI

from delegate_tool.client import Delegation, Endpoint, call_agent, read_limits
from delegate_tool.protocol.context import ContextError
from delegate_tool.protocol.result import DelegationResult
from delegate_tool.response_format import ResponseFormat, render_response_format, with_parsed

type UsdAmount = str | int | float | Decimal


async def adelegate(
    agent: str,
    task: str,
    *,
    context: str | None = None,
    conversation_id: str | None = None,
    budget_usd: UsdAmount | None = None,
    timeout_s: float | None = None,
    max_turns: int | None = None,
    max_depth: int | None = None,
    max_runs: int | None = None,
    max_breadth: int | None = None,
    allowed_agents: Collection[str] | None = None,
    response_format: ResponseFormat | None = None,
    idempotency_key: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    client: AsyncOpenAI | None = None,
) -> DelegationResult:
    """Call an agent from a script, and wait for its answer. Cancelling the task cancels the run.

        result = await adelegate("openhands_reviewer", "Review this: …", budget_usd="0.50", timeout_s=300)
        print(result.raise_for_status().answer, result.cost_usd)

    What goes wrong at the endpoint is a result that is not `ok`, with `error_code`, `error_message` and `remedy`;
    `raise_for_status()` makes it a `DelegationError`. Limits hold for this run and everything that it delegates; a gateway
    narrows them by its own and never widens those. Files cannot be sent yet.

    Args:
        agent: model id, such as `openhands_reviewer`, or `{peer}/{model}`. GET /v1/models lists them.
        task: what to do, self-contained.
        context: facts that the agent needs beside the task.
        conversation_id: `conversation_id` of an earlier result, to go on with the same agent.
        budget_usd: cap on the cost in USD, such as `"0.50"` or `Decimal("0.50")`, with at most six decimal places. An endpoint
            that is no gateway ignores it: `budget_enforced` of the result is False then, and a warning is logged.
        timeout_s: cap on the time in seconds; 1800 by default.
        max_turns: cap on the LLM calls of this run, from 1.
        max_depth: greatest depth in the tree; 0 forbids the agent to delegate.
        max_runs: cap on the runs below this one, from 0.
        max_breadth: cap on the live children of one run, from 1.
        allowed_agents: the only model ids that this run and all below it may call; empty forbids delegation.
        response_format: a pydantic model class, a JSON schema, or OpenAI's own object. The result's `parsed` is then an instance
            of the class, or the JSON value. An answer in another form fails with `response_format_violated`.
        idempotency_key: 1 to 255 visible ASCII characters, such as the id of a job. A gateway answers the same call with the same
            key from the first run. By default each call has a key of its own, so that its retries run no agent twice.
        base_url: OpenAI base URL, which usually ends in `/v1`. Default: the environment's `A2A_BASE_URL`.
        api_key: a key of `a2a-gateway keys create NAME`. Default: the environment's `A2A_API_KEY`.
        client: an OpenAI client to use instead of a new one, and leave open; saves 0.1 s for each call.

    Raises:
        ValueError: an argument is malformed, or the endpoint or key is neither given nor in the environment.
    """
    _require_text("agent", agent)
    _require_text("task", task)
    limits = read_limits(
        conversation_id=conversation_id,
        budget_usd=budget_usd,
        timeout_s=timeout_s,
        max_turns=max_turns,
        max_depth=max_depth,
        max_runs=max_runs,
        max_breadth=max_breadth,
        allowed_agents=allowed_agents,
        idempotency_key=uuid.uuid4().hex if idempotency_key is None else idempotency_key,
    )
    sent_format = None if response_format is None else render_response_format(response_format)
    delegation = Delegation(agent, task, context, limits, sent_format)
    if client is not None:
        result = await call_agent(client, delegation)
    else:
        async with Endpoint.find(base_url, api_key).connect() as own:
            result = await call_agent(own, delegation)
    return result if response_format is None else with_parsed(result, response_format)


def delegate(
    agent: str,
    task: str,
    *,
    context: str | None = None,
    conversation_id: str | None = None,
    budget_usd: UsdAmount | None = None,
    timeout_s: float | None = None,
    max_turns: int | None = None,
    max_depth: int | None = None,
    max_runs: int | None = None,
    max_breadth: int | None = None,
    allowed_agents: Collection[str] | None = None,
    response_format: ResponseFormat | None = None,
    idempotency_key: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
) -> DelegationResult:
    """Call an agent from a script, and wait for its answer. Ctrl-C cancels the run.

        result = delegate("openhands_reviewer", "Review this: …", budget_usd="0.50", timeout_s=300)
        print(result.raise_for_status().answer, result.cost_usd)

    What goes wrong at the endpoint is a result that is not `ok`, with `error_code`, `error_message` and `remedy`;
    `raise_for_status()` makes it a `DelegationError`. Limits hold for this run and everything that it delegates; a gateway
    narrows them by its own and never widens those. Files cannot be sent yet.

    Args:
        agent: model id, such as `openhands_reviewer`, or `{peer}/{model}`. GET /v1/models lists them.
        task: what to do, self-contained.
        context: facts that the agent needs beside the task.
        conversation_id: `conversation_id` of an earlier result, to go on with the same agent.
        budget_usd: cap on the cost in USD, such as `"0.50"` or `Decimal("0.50")`, with at most six decimal places. An endpoint
            that is no gateway ignores it: `budget_enforced` of the result is False then, and a warning is logged.
        timeout_s: cap on the time in seconds; 1800 by default.
        max_turns: cap on the LLM calls of this run, from 1.
        max_depth: greatest depth in the tree; 0 forbids the agent to delegate.
        max_runs: cap on the runs below this one, from 0.
        max_breadth: cap on the live children of one run, from 1.
        allowed_agents: the only model ids that this run and all below it may call; empty forbids delegation.
        response_format: a pydantic model class, a JSON schema, or OpenAI's own object. The result's `parsed` is then an instance
            of the class, or the JSON value. An answer in another form fails with `response_format_violated`.
        idempotency_key: 1 to 255 visible ASCII characters, such as the id of a job. A gateway answers the same call with the same
            key from the first run. By default each call has a key of its own, so that its retries run no agent twice.
        base_url: OpenAI base URL, which usually ends in `/v1`. Default: the environment's `A2A_BASE_URL`.
        api_key: a key of `a2a-gateway keys create NAME`. Default: the environment's `A2A_API_KEY`.

    Raises:
        ValueError: an argument is malformed, or the endpoint or key is neither given nor in the environment.
        RuntimeError: an event loop runs in this thread, and this call would block it; use `adelegate` there.
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
            max_turns=max_turns,
            max_depth=max_depth,
            max_runs=max_runs,
            max_breadth=max_breadth,
            allowed_agents=allowed_agents,
            response_format=response_format,
            idempotency_key=idempotency_key,
            base_url=base_url,
            api_key=api_key,
        )
    )


def _require_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ContextError(name, f"{name} must be a text that is not empty")
