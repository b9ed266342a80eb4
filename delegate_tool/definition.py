"""The delegation tool as the SDK sees it: name, description, creation, registration.

An agent has the tool if its tool list names it. Inside a gateway the tool finds the run's binding and needs no parameters.
Elsewhere it needs an endpoint, from its parameters or from the environment. Parameters are persisted with the conversation, so
they hold no secret.
"""

import asyncio
import concurrent.futures
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import openai
from openai.types import Model
from openhands.sdk.tool import Action, DeclaredResources, ToolAnnotations, ToolDefinition, register_tool
from openhands.sdk.tool.registry import registered_tool_class

from delegate_tool.binding import BoundClient, find_binding
from delegate_tool.client import API_KEY_ENV, Endpoint, read_limits, warn_of_unenforced_budget
from delegate_tool.connection import GatewayConnection, OwnConnection, ToolConnection
from delegate_tool.executor import DelegationExecutor, Delegator
from delegate_tool.protocol.context import AgentCard, DelegationContext
from delegate_tool.protocol.text import did_you_mean, well_formed
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
        budget_usd: str | float | None = None,
        timeout_s: float | None = None,
        max_turns: int | None = None,
        max_depth: int | None = None,
        max_runs: int | None = None,
        max_breadth: int | None = None,
        allowed_agents: Sequence[str] | None = None,
        withholdable: bool = False,
        **unknown: object,
    ) -> Sequence["DelegationTool"]:
        """Make the tool for one conversation, or no tool where the run may not delegate any deeper.

        All parameters but `withholdable` are for use outside a gateway, and are ignored inside one.

        Args:
            base_url: default is the environment's `A2A_BASE_URL`.
            api_key_env: name of the environment variable that holds the key.
            agents: the only model ids that may be called, optionally with what each is good at. Default: the description lists
                the endpoint's models, and the endpoint decides which may be called.
            budget_usd: cap on the cost of each delegation. An endpoint that is no gateway ignores it.
            timeout_s: cap on the seconds of each delegation.
            max_turns: cap on the LLM calls of each child.
            max_depth: greatest depth in the tree of each child, which is at depth 0.
            max_runs: cap on the runs below each child.
            max_breadth: cap on the live children of one run below.
            allowed_agents: the only model ids that each child and all below it may call; `agents` is for this agent.
            withholdable: whether the caller leaves a `WithheldDelegationTool` out of what it renders for the LLM. If so, make one
                where the run may not delegate any deeper.

        Raises:
            EndpointMissing: the base URL or the key is neither given nor in the environment.
            ContextError: a limit is malformed.
            TypeError: there is no such parameter.
        """
        _refuse_unknown(unknown)
        limits = {
            "budget_usd": budget_usd,
            "timeout_s": timeout_s,
            "max_turns": max_turns,
            "max_depth": max_depth,
            "max_runs": max_runs,
            "max_breadth": max_breadth,
            "allowed_agents": allowed_agents,
        }
        try:
            bound = find_binding(conv_state.id)
        except LookupError:
            return [cls._create_unbound(Endpoint.find(base_url, api_key_env=api_key_env), agents, read_limits(**limits))]
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
        cls, endpoint: Endpoint, agents: Sequence[str] | Mapping[str, str] | None, defaults: DelegationContext
    ) -> "DelegationTool":
        connection = OwnConnection(endpoint)
        cards, is_plain = _list_agents(connection) if agents is None else (_as_cards(agents), False)
        if is_plain and defaults.budget_micro_usd is not None:
            warn_of_unenforced_budget(endpoint.base_url)
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
    """Register the tool with the SDK, once, and return the name under which agents list it.

        Tool(name=register(), params={"budget_usd": "0.50", "timeout_s": 600})

    All parameters are optional, and are stored with the conversation, so none of them is a secret:

    | parameter | meaning |
    |---|---|
    | `base_url` | OpenAI base URL of the endpoint; default: the environment's `A2A_BASE_URL` |
    | `api_key_env` | name of the environment variable with the key; default: `A2A_API_KEY` |
    | `agents` | the only model ids that may be called, as a list or as a mapping to what each is good at |
    | `budget_usd` | cap on the cost of each delegation in USD, such as `"0.50"`; an endpoint that is no gateway ignores it |
    | `timeout_s` | cap on the seconds of each delegation |
    | `max_turns` | cap on the LLM calls of each child |
    | `max_depth` | greatest depth below, where each child is at 0; 0 forbids the children to delegate |
    | `max_runs` | cap on the runs below each child |
    | `max_breadth` | cap on the live children of one run below |
    | `allowed_agents` | the only model ids that the children and all below them may call |

    Inside a gateway the run's own limits hold, and the parameters are ignored. An unknown parameter raises `TypeError` when the
    conversation starts.
    """
    if registered_tool_class(TOOL_NAME) is not DelegationTool:
        register_tool(TOOL_NAME, DelegationTool)
    return TOOL_NAME


def _refuse_unknown(unknown: Mapping[str, object]) -> None:
    for name in unknown:
        parameters = inspect.signature(DelegationTool.create).parameters.values()
        known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.name != "withholdable"]
        raise TypeError(
            f"The tool {TOOL_NAME!r} has no parameter {name!r}{did_you_mean(name, known)}. It takes {', '.join(known)}."
        )


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


def _list_agents(connection: ToolConnection) -> tuple[tuple[AgentCard, ...], bool]:
    """Request the endpoint's list of models. Not every endpoint has one, and the tool works without it.

    Return the agents, and whether the list shows that the endpoint is no gateway.
    """
    client, loop = connection.open()
    future = asyncio.run_coroutine_threadsafe(_fetch_models(client), loop)
    try:
        models = future.result(_CATALOGUE_TIMEOUT_S)
        return tuple(map(_as_card, models)), bool(models) and not any(map(_is_of_gateway, models))
    except (openai.APIError, TimeoutError, concurrent.futures.CancelledError, *_NO_LIST) as error:
        _log.info("the endpoint does not list its agents: %s", error)
        return (), False
    finally:
        future.cancel()


async def _fetch_models(client: openai.AsyncOpenAI) -> Sequence[Model]:
    return (await client.with_options(max_retries=0).models.list(timeout=_CATALOGUE_TIMEOUT_S)).data


def _as_card(model: Model) -> AgentCard:
    # `description` is an extension of OpenAI's format.
    return AgentCard(well_formed(model.id), well_formed(str((model.model_extra or {}).get("description") or "")))


def _is_of_gateway(model: Model) -> bool:
    # A gateway states the limits of each agent.
    return isinstance((model.model_extra or {}).get("limits"), Mapping)
