"""The delegation tool's executor: turn an action into a call on an event loop, and its result into an observation.

It never raises to the agent. The run's credential is in the connection's client and nowhere else. `definition` uses this module,
which uses `client` and `connection`.
"""

import asyncio
import concurrent.futures
import logging
import re
import threading
import uuid
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from openhands.sdk.event import ActionEvent
from openhands.sdk.llm.utils.metrics import Metrics
from openhands.sdk.tool import ToolExecutor

from delegate_tool.client import Delegation, call_agent, read_limits
from delegate_tool.connection import ToolConnection
from delegate_tool.protocol.codes import (
    AGENT_NOT_LISTED,
    DEPTH_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    MALFORMED_RESPONSE,
    RUN_CANCELLED,
    UNREACHABLE,
)
from delegate_tool.protocol.context import ContextError, DelegationContext
from delegate_tool.protocol.money import MICRO_PER_USD
from delegate_tool.protocol.result import DelegationResult, DelegationStatus, make_refusal
from delegate_tool.protocol.values import full_model_id
from delegate_tool.remaining import Allowance
from delegate_tool.schema import DelegationAction, DelegationObservation

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openhands.sdk import LocalConversation

_log = logging.getLogger(__name__)
_RECENT_EVENTS: Final = 200
_END_TIMEOUT_S: Final = 3.0
_NOT_ITS_GATEWAY: Final = frozenset({UNREACHABLE, MALFORMED_RESPONSE, "invalid_api_key", "not_found", "http_404"})
"""What a live run's token gets only at a wrong URL. Its agent cannot change that, so the gateway's log has it, too."""


@dataclass(frozen=True, slots=True)
class Delegator:
    """The agent that delegates, and what it may ask for.

    Attributes:
        agents: the only agents that may be called; None leaves that to the endpoint.
        run_id: the run that delegates. None outside a gateway, where the conversation's id takes its place.
        depth: the depth of that run, where it is known.
        defaults: limits and trace context of every action; an action can only narrow the limits.
    """

    agents: frozenset[str] | None = None
    run_id: str | None = None
    depth: int | None = None
    defaults: DelegationContext = field(default_factory=DelegationContext)


class DelegationExecutor(ToolExecutor[DelegationAction, DelegationObservation]):
    """Carries out the delegations of one agent, several at a time. Owns its connection."""

    def __init__(self, connection: ToolConnection, delegator: Delegator, allowance: Allowance) -> None:
        self._connection = connection
        self._delegator = delegator
        self._allowance = allowance
        self._lock = threading.Lock()
        self._call_ended = threading.Condition()
        self._calls = 0
        self._in_flight: set[concurrent.futures.Future[DelegationResult]] = set()

    def __call__(self, action: DelegationAction, conversation: "LocalConversation | None" = None) -> DelegationObservation:
        try:
            result = self._delegate(action, conversation)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails here, the agent must be able to go on
            _log.warning("a delegation to %s broke: %s", action.agent, type(error).__name__, exc_info=True)
            result = DelegationResult(
                DelegationStatus.FAILED,
                error_code=INTERNAL_ERROR,
                error_message="The delegation tool itself failed.",
            )
        return DelegationObservation.from_result(action.agent, result, self._allowance.charge(result))

    def interrupt(self) -> None:
        """Cancel every delegation in flight. Returns at once. Any thread may call it, also the event loop's."""
        with self._lock:
            in_flight = tuple(self._in_flight)
        for future in in_flight:
            future.cancel()

    def close(self) -> None:
        """Cancel the delegations in flight, then close the connection."""
        self.interrupt()
        if self._is_from_outside:
            with self._call_ended:  # each cancelled call still has to cancel its run at the gateway, over this connection
                self._call_ended.wait_for(lambda: not self._calls, timeout=_END_TIMEOUT_S)
        self._connection.close()

    @property
    def _is_from_outside(self) -> bool:
        return self._delegator.run_id is None

    def _delegate(self, action: DelegationAction, conversation: "LocalConversation | None") -> DelegationResult:
        refusal = self._refusal(action)
        if refusal is not None:
            return refusal
        try:
            limits = read_limits(
                conversation_id=action.conversation_id, budget_usd=action.budget_usd, timeout_s=action.timeout_s
            ).narrowed_by(self._delegator.defaults)
        except ContextError as error:
            return make_refusal(INVALID_REQUEST, f"{error}.")
        key = self._idempotency_key(action, conversation)
        delegation = Delegation(action.agent, action.task, action.context, replace(limits, idempotency_key=key))
        result = self._wait(delegation, conversation)
        if not self._is_from_outside and result.error_code in _NOT_ITS_GATEWAY:
            _log.warning(
                "run %s did not reach its own gateway (%s): check `public_url`", self._delegator.run_id, result.error_code
            )
        if conversation is not None:
            _record_usage(conversation, action.agent, result, key)
        return result

    def _refusal(self, action: DelegationAction) -> DelegationResult | None:
        """Refuse what the endpoint would refuse too: it saves a round trip, and the message uses the tool's own terms."""
        agents = self._delegator.agents
        if self._allowance.remaining().depth == 0:
            return make_refusal(DEPTH_EXCEEDED, self._depth_message())
        if not action.task.strip():
            return make_refusal(INVALID_REQUEST, "The task is empty: write what the agent has to do, self-contained.")
        if action.budget_usd is not None and not re.search("[1-9]", action.budget_usd):
            return make_refusal(INVALID_REQUEST, f"budget_usd is {action.budget_usd!r}: it must be more than 0, or left out.")
        if action.timeout_s is not None and not action.timeout_s > 0:
            return make_refusal(INVALID_REQUEST, f"timeout_s is {action.timeout_s:g}: it must be more than 0, or left out.")
        if agents is not None and agents.isdisjoint((action.agent, full_model_id(action.agent))):
            message = f"{action.agent!r} is not an agent that may be called; {_list_callable(agents)}."
            return make_refusal(AGENT_NOT_LISTED, message)
        return None

    def _depth_message(self) -> str:
        depth = self._delegator.depth
        if depth is None:
            return "The run would be deeper than allowed."
        return f"The run would be at depth {depth + 1}; the greatest depth allowed here is {depth}."

    def _wait(self, delegation: Delegation, conversation: "LocalConversation | None") -> DelegationResult:
        client, loop = self._connection.open()
        call = self._call(client, delegation)
        try:
            future = asyncio.run_coroutine_threadsafe(call, loop)
        except RuntimeError:  # the loop has ended
            call.close()
            raise
        with self._lock:
            self._in_flight.add(future)
        # An interrupt could not cancel the future before it was in the set.
        token = conversation.cancel_token if conversation is not None else None
        if token is not None and token.is_cancelled:
            future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            return DelegationResult(
                DelegationStatus.CANCELLED, error_code=RUN_CANCELLED, error_message="The delegation was interrupted."
            )
        finally:
            future.cancel()  # if this thread was interrupted (Ctrl-C in a synchronous run), the result is no longer wanted
            with self._lock:
                self._in_flight.discard(future)

    async def _call(self, client: "AsyncOpenAI", delegation: Delegation) -> DelegationResult:
        with self._call_ended:
            self._calls += 1
        try:
            left_s = self._allowance.remaining().seconds
            return await call_agent(client, delegation, time_left_s=left_s, is_from_outside=self._is_from_outside)
        finally:
            with self._call_ended:
                self._calls -= 1
                self._call_ended.notify_all()

    def _idempotency_key(self, action: DelegationAction, conversation: "LocalConversation | None") -> str:
        """Make the idempotency key from the id of the run and the id of the event that asks for this call.

        The tool call's id would not do: some providers count tool calls from 0 in every turn.
        """
        run_id = self._delegator.run_id or (str(conversation.id) if conversation is not None else "")
        return f"{run_id}:{_event_id(action, conversation) or uuid.uuid4()}"


def _event_id(action: DelegationAction, conversation: "LocalConversation | None") -> str | None:
    events = conversation.state.events if conversation is not None else ()
    for event in islice(reversed(events), _RECENT_EVENTS):
        if isinstance(event, ActionEvent) and event.action is action:
            return event.id
    return None


def _record_usage(conversation: "LocalConversation", agent: str, result: DelegationResult, key: str) -> None:
    """Add the child's cost and tokens to the parent's metrics, where the SDK's budget and every report count them."""
    if result.status is DelegationStatus.REFUSED:
        return
    metrics = Metrics(model_name=agent)
    if result.cost_micro_usd is not None:
        metrics.add_cost(result.cost_micro_usd / MICRO_PER_USD)
    metrics.add_token_usage(
        prompt_tokens=result.tree_tokens.prompt,
        completion_tokens=result.tree_tokens.completion,
        cache_read_tokens=result.tokens.cached,
        cache_write_tokens=0,
        context_window=0,
        response_id=result.run_id or key,
        reasoning_tokens=result.tokens.reasoning,
    )
    conversation.conversation_stats.usage_to_metrics[f"delegate:{result.run_id or key}"] = metrics


def _list_callable(agents: frozenset[str]) -> str:
    return f"these may: {', '.join(sorted(agents))}" if agents else "no agent may be called"
