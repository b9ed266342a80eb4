"""The delegation tool as the SDK sees it: name, description, creation, registration.

An agent has the tool if its tool list names it. Inside a gateway the tool finds the run's binding and needs no parameters.
Elsewhere it needs an endpoint, from its parameters or from the environment. Parameters are persisted with the conversation, so
they hold no secret.
"""

import asyncio
import concurrent.futures
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import openai
from openhands.sdk.tool import Action, DeclaredResources, ToolAnnotations, ToolDefinition, register_tool
from openhands.sdk.tool.registry import registered_tool_class

from delegate_tool.binding import BoundClient, find_binding
from delegate_tool.client import API_KEY_ENV, Endpoint, read_limits
from delegate_tool.connection import GatewayConnection, OwnConnection, ToolConnection
from delegate_tool.executor import DelegationExecutor, Delegator
from delegate_tool.protocol.context import AgentCard, DelegationContext
from delegate_tool.protocol.text import well_formed
from delegate_tool.protocol.values import SELF
from delegate_tool.remaining import Allowance
from delegate_tool.schema import DelegationAction, DelegationObservation

if TYPE_CHECKING:
    from openhands.sdk.conversation.state import ConversationState

__all__ = ["DelegationAction", "DelegationObservation", "DelegationTool", "WithheldDelegationTool", "register"]

_log = logging.getLogger(__name__)
TOOL_NAME: Final = "delegate"
_CATALOGUE_TIMEOUT_S: Final = 3.0
_MAX_CARDS: Final = 40
_NO_LIST: Final = (ValueError, TypeError, AttributeError, RecursionError)
"""What the OpenAI client raises when the response is not a list of models, such as a page of HTML: it does not validate it."""

_DESCRIPTION: Final = """\
Delegate a task to another agent and get its answer. It works on its own, with its own instructions and tools, and sees nothing of
your conversation: only what you write here.

Write the task so that a capable newcomer could do it: the goal, the inputs (paths, links, data), the constraints, what is already
known, and the form of the answer that you need. Ask for results, not for steps. Delegate what a specialist does better, or what
can run beside other work; do small things yourself. Calls made in one turn run in parallel, so make independent ones together,
and give no agent a task that needs another's result. Check what comes back: you answer for it.
"""


class DelegationTool(ToolDefinition[DelegationAction, DelegationObservation]):
    """Lets an agent call other agents through an OpenAI-compatible endpoint."""

    name: ClassVar[str] = TOOL_NAME
    catalog_description: ClassVar[str] = "Delegate tasks to other agents over the OpenAI protocol."

    def declared_resources(self, action: Action) -> DeclaredResources:
        """Declare that calls share nothing, so that those of one turn run in parallel."""
        return DeclaredResources(keys=(), declared=True)

    @classmethod
    def create(
        cls,
        conv_state: "ConversationState",
        *,
        base_url: str | None = None,
        api_key_env: str = API_KEY_ENV,
        agents: Sequence[str] | Mapping[str, str] | None = None,
        budget_usd: str | None = None,
        timeout_s: float | None = None,
        withholdable: bool = False,
    ) -> Sequence["DelegationTool"]:
        """Make the tool for one conversation, or no tool where the run may not delegate any deeper.

        All parameters but `withholdable` are for use outside a gateway, and are ignored inside one.

        Args:
            base_url: default is the environment's `A2A_BASE_URL`.
            api_key_env: name of the environment variable that holds the key.
            agents: the only model ids that may be called, optionally with what each is good at. Default: the description lists
                the endpoint's models, and the endpoint decides which may be called.
            budget_usd: cap on each delegation; `timeout_s` likewise, in seconds.
            withholdable: whether the caller leaves a `WithheldDelegationTool` out of what it renders for the LLM. If so, make one
                where the run may not delegate any deeper.

        Raises:
            EndpointMissing: the base URL or the key is neither given nor in the environment.
            ContextError: a limit is malformed.
        """
        try:
            bound = find_binding(conv_state.id)
        except LookupError:
            return [cls._create_unbound(Endpoint.find(base_url, api_key_env=api_key_env), agents, budget_usd, timeout_s)]
        if bound is None:
            return []
        if bound.binding.depth_left is None or bound.binding.depth_left > 0:
            return [cls._create_bound(bound)]
        return [WithheldDelegationTool._create_bound(bound)] if withholdable else []

    @classmethod
    def _create_bound(cls, bound: BoundClient) -> "DelegationTool":
        binding = bound.binding
        myself = AgentCard(SELF, f"{binding.self_agent}, your own kind: a fresh copy that knows nothing of this conversation")
        agents = frozenset({SELF, *(card.model for card in binding.agents)})
        trace = DelegationContext(traceparent=binding.traceparent, tracestate=binding.tracestate)
        delegator = Delegator(agents=agents, run_id=binding.run_id, depth=binding.depth, defaults=trace)
        return cls._create(GatewayConnection(bound), delegator, Allowance(binding, bound.deadline_at), (*binding.agents, myself))

    @classmethod
    def _create_unbound(
        cls, endpoint: Endpoint, agents: Sequence[str] | Mapping[str, str] | None, budget_usd: str | None, timeout_s: float | None
    ) -> "DelegationTool":
        defaults = read_limits(budget_usd=budget_usd, timeout_s=timeout_s)
        connection = OwnConnection(endpoint)
        cards = _list_agents(connection) if agents is None else _as_cards(agents)
        delegator = Delegator(agents=None if agents is None else frozenset(card.model for card in cards), defaults=defaults)
        return cls._create(connection, delegator, Allowance(), cards)

    @classmethod
    def _create(
        cls, connection: ToolConnection, delegator: Delegator, allowance: Allowance, cards: Sequence[AgentCard]
    ) -> "DelegationTool":
        return cls(
            description=_describe(cards, str(allowance.remaining())),
            action_type=DelegationAction,
            observation_type=DelegationObservation,
            annotations=ToolAnnotations(
                title=TOOL_NAME, readOnlyHint=False, destructiveHint=False, idempotentHint=False, openWorldHint=True
            ),
            executor=DelegationExecutor(connection, delegator, allowance),
        )


class WithheldDelegationTool(DelegationTool):
    """The tool of a run that may not delegate any deeper. It must not be offered to the LLM, and refuses every call."""

    name: ClassVar[str] = TOOL_NAME  # the SDK names a subclass after its class


def register() -> str:
    """Register the tool with the SDK, once, and return the name under which agents list it."""
    if registered_tool_class(TOOL_NAME) is not DelegationTool:
        register_tool(TOOL_NAME, DelegationTool)
    return TOOL_NAME


def _describe(cards: Sequence[AgentCard], left: str) -> str:
    shown = [f"- {card.model}: {' '.join(card.description.split())}" if card.description else f"- {card.model}" for card in cards]
    if len(shown) > _MAX_CARDS:
        shown[_MAX_CARDS:] = [f"- and {len(shown) - _MAX_CARDS} more"]
    listing = "\n".join(["Agents that you may call:", *shown]) if shown else "Call agents by the model ids in your instructions."
    return "\n".join([_DESCRIPTION, listing, *([f"\nLeft at the start of this run: {left}."] if left else [])])


def _as_cards(agents: Sequence[str] | Mapping[str, str]) -> tuple[AgentCard, ...]:
    if isinstance(agents, Mapping):
        return tuple(AgentCard(model, description) for model, description in agents.items())
    return tuple(AgentCard(model) for model in agents)


def _list_agents(connection: ToolConnection) -> tuple[AgentCard, ...]:
    """Request the endpoint's list of models. Not every endpoint has one, and the tool works without it."""
    client, loop = connection.open()
    future = asyncio.run_coroutine_threadsafe(_fetch_cards(client), loop)
    try:
        return future.result(_CATALOGUE_TIMEOUT_S)
    except (openai.APIError, TimeoutError, concurrent.futures.CancelledError, *_NO_LIST) as error:
        _log.info("the endpoint does not list its agents: %s", error)
        return ()
    finally:
        future.cancel()


async def _fetch_cards(client: openai.AsyncOpenAI) -> tuple[AgentCard, ...]:
    models = await client.with_options(max_retries=0).models.list(timeout=_CATALOGUE_TIMEOUT_S)
    # `description` is an extension of OpenAI's format.
    described = ((model.id, str((model.model_extra or {}).get("description") or "")) for model in models.data)
    return tuple(AgentCard(well_formed(name), well_formed(description)) for name, description in described)
