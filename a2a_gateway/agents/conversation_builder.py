"""Build the SDK's objects for one run: its LLMs, its agent, and its conversation with the history in it.

Blocking; the runner calls it in a thread. The SDK has no public way to give a conversation a history, so private names of it are
used; `sdk_patches.private_names` lists them.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from openhands.sdk import Agent, AgentContext, LocalConversation, Tool
from openhands.sdk.context.condenser import LLMSummarizingCondenser
from openhands.sdk.event import Event, MessageEvent, SystemPromptEvent
from openhands.sdk.llm import LLM

from a2a_gateway.agents.answer_form import AnswerForm
from a2a_gateway.agents.history import History, history_of, new_messages
from a2a_gateway.agents.llm.condenser import GatewayCondenser
from a2a_gateway.agents.llm.finish_reasons import is_empty_message
from a2a_gateway.agents.llm.metered_llm import MeteredLLM, build_metered_llm
from a2a_gateway.agents.llm.observed_stream import TurnObserver
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.tool_schemas import ToolSchemas
from a2a_gateway.agents.recipe import AgentRecipe, ToolSpec
from a2a_gateway.agents.sdk_patches.tool_threads import use_tool_threads
from a2a_gateway.agents.tools.mcp_servers import McpServers
from a2a_gateway.agents.transcript import decode_transcript
from a2a_gateway.errors import UnsupportedError
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import AdmittedRun, RunId
from delegate_tool.binding import BoundClient


class Toolbox(Protocol):
    """The source of an agent's tools."""

    def specs(self, tools: Sequence[ToolSpec], *, may_delegate: bool) -> list[Tool]:
        """Return the SDK's specifications of the tools, without the delegation tool if the run may not delegate."""
        ...

    def bind(
        self, conversation_id: UUID, *, run_id: RunId, workspace_dir: str, delegation: BoundClient | None
    ) -> AbstractContextManager[None]:
        """Make the objects of a run available to its tools while the SDK initialises the conversation."""
        ...


@dataclass(frozen=True, slots=True)
class PreparedConversation:
    """A conversation that is ready to run.

    Attributes:
        llm: the agent's LLM.
        mcp: its MCP servers.
        system: the caller's system text, which is stored in the transcript.
    """

    conversation: LocalConversation
    llm: MeteredLLM
    mcp: McpServers
    system: str

    def llm_events(self) -> list[Event]:
        """Return the conversation so far, without the system prompt, which the next run builds again."""
        return [event for event in self.conversation.state.events if not isinstance(event, SystemPromptEvent)]

    @property
    def last_answer_is_empty(self) -> bool:
        """Whether the agent's last answer had no text and no tool call."""
        from_agent = (event for event in reversed(self.conversation.state.events) if event.source == "agent")
        last = next(from_agent, None)
        return isinstance(last, MessageEvent) and is_empty_message(last.llm_message)

    def close(self) -> None:
        """End the tools, and break the conversation's reference cycles."""
        self.mcp.close()
        self.conversation.close()
        # It refers to itself through these. The cycles would keep a run's objects in memory until a full garbage collection.
        self.conversation._on_event = self.conversation._base_callback = _ignore


@dataclass(frozen=True, slots=True)
class Wiring:
    """The objects that the conversation of one run uses.

    Attributes:
        tool_threads: where its tools run.
        delegation: the client of the delegation tool; None if the run may not delegate.
    """

    toolbox: Toolbox
    tool_threads: ThreadPoolExecutor
    schemas: ToolSchemas
    account: RunAccount
    observer: TurnObserver
    on_event: Callable[[Event], None]
    mcp: McpServers
    delegation: BoundClient | None = None


def prepare(run: AdmittedRun, recipe: AgentRecipe, wiring: Wiring, form: AnswerForm | None) -> PreparedConversation:
    """Build the agent and its conversation, ready for `arun`. The caller closes the conversation.

    Raises:
        UnsupportedError: the LLM does not support an option of the request, or an image in its messages.
        RequestError: a tool message does not follow its call, or a call has no result.
        StoreError: the stored conversation cannot be read.
        AgentFailed: an MCP server of the profile did not start.
    """
    history = _history(run, vision=recipe.llm.vision_is_active())
    _refuse_unsupported(run.sampling, recipe.llm)
    llm = build_metered_llm(
        recipe.llm,
        wiring.account,
        recipe.prices,
        sampling=run.sampling,
        observer=wiring.observer,
        schemas=wiring.schemas,
        retries_first_call=not run.is_marked_retry,
    )
    suffix = _suffix(recipe.system_suffix, history.system, form.instruction() if form else None)
    agent = _agent(run, recipe, wiring, llm, suffix)
    use_tool_threads(agent, wiring.tool_threads)
    conversation = LocalConversation(
        agent=agent,
        workspace=run.workspace_dir,
        callbacks=[wiring.on_event],
        visualizer=None,
        persistence_dir=None,
        # The id of the caller's conversation, not of this SDK conversation, so that the next run can use the provider's cache.
        prompt_cache_key=str(run.record.conversation_id),
        delete_on_close=False,
        # The LLM's account counts the turns. This limit only ends a loop without LLM calls.
        max_iteration_per_run=2 * run.record.limits.max_turns + 10,
    )
    # Autosave copies the state in memory after each change. It has no use here: the transcript continues a conversation.
    conversation.state._autosave_enabled = False
    try:
        with wiring.toolbox.bind(
            conversation.id, run_id=run.record.id, workspace_dir=run.workspace_dir, delegation=wiring.delegation
        ):
            conversation._ensure_agent_ready()
        wiring.mcp.start(conversation.agent.tools_map.keys(), conversation.agent.add_runtime_tools)
        _add_history(conversation, history.events)
    except BaseException:
        wiring.mcp.close()
        conversation.close()
        raise
    return PreparedConversation(conversation, llm, wiring.mcp, history.system)


def _add_history(conversation: LocalConversation, events: Sequence[Event]) -> None:
    for llm in _llms(conversation.agent):
        # The SDK's own search does not find subclasses of LLM, so the conversation's statistics would lack their usage.
        conversation.llm_registry.add(llm)
    with conversation.state:
        for event in events:
            conversation._on_event(event)


def _agent(run: AdmittedRun, recipe: AgentRecipe, wiring: Wiring, llm: MeteredLLM, suffix: str | None) -> Agent:
    prompt: Mapping[str, Any] = {"system_prompt": recipe.system_prompt} if recipe.system_prompt is not None else {}
    persona: Mapping[str, Any] = {"persona": recipe.persona} if recipe.persona is not None else {}
    return Agent(
        llm=llm,
        tools=wiring.toolbox.specs(recipe.tools, may_delegate=wiring.delegation is not None),
        # A date in the prompt would invalidate the provider's prompt cache.
        agent_context=AgentContext(system_message_suffix=suffix, current_datetime=None),
        condenser=_condenser(recipe, wiring.account),
        tool_concurrency_limit=run.record.limits.max_breadth,
        **prompt,
        **persona,
    )


def _condenser(recipe: AgentRecipe, account: RunAccount) -> LLMSummarizingCondenser | None:
    template = recipe.condenser_llm
    if template is None:
        return None
    llm = build_metered_llm(template, account, recipe.prices, usage_id="condenser")
    return GatewayCondenser(llm=llm, max_size=recipe.condenser_max_size)


def _llms(agent: Agent | Any) -> list[LLM]:
    condenser = agent.condenser
    return [agent.llm, condenser.llm] if isinstance(condenser, LLMSummarizingCondenser) else [agent.llm]


def _history(run: AdmittedRun, *, vision: bool) -> History:
    if not run.transcript:
        return history_of(run.messages, vision=vision)
    before = decode_transcript(run.transcript)
    now = history_of(new_messages(run.messages), vision=vision, before=before.events)
    return History(now.system or before.system, (*before.events, *now.events))


def _refuse_unsupported(sampling: Sampling, llm: LLM) -> None:
    if sampling.stop and llm.uses_responses_api():
        raise UnsupportedError("This model's endpoint (OpenAI Responses) has no stop sequences. Leave `stop` out.", param="stop")


def _ignore(_: Event) -> None:
    """Ignore an event after the end of the run."""


def _suffix(*texts: str | None) -> str | None:
    return "\n\n".join(text for text in texts if text) or None
