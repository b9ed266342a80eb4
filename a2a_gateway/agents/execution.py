"""Execute one run of an agent, from its recipe to its outcome.

`Execution.drive` leads a run through these steps:

    step                      where                     what happens
    prepare                   a thread                  build agent and conversation; the history is not emitted again
    run the agent             a task of its own         turns, tools and delegations; text is emitted while it arrives
    check the answer          a task of its own         only if the request sets a form; the agent may correct it once
    settle and end            `RunAccount.close`        wait for bookings, then emit `RunEnded`, which is the last event
    close                     a thread                  end the tools

A cancel or the deadline stops a run from outside. The first of them decides: it cancels the check, or interrupts the agent, or
keeps the next step from beginning. `runner` iterates over the events of executions.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Final

from openai import AsyncOpenAI
from openhands.sdk import LocalConversation, TextContent
from openhands.sdk import Message as SDKMessage
from openhands.sdk.conversation.exceptions import ConversationRunError
from openhands.sdk.conversation.state import ConversationExecutionStatus as Status
from openhands.sdk.event import Event
from openhands.sdk.event.conversation_error import ConversationErrorEvent

from a2a_gateway.agents.answer_form import AnswerForm
from a2a_gateway.agents.conversation_builder import PreparedConversation, Toolbox, Wiring, prepare
from a2a_gateway.agents.llm.budget_notes import budget_spent_error
from a2a_gateway.agents.llm.error_translation import failure_of
from a2a_gateway.agents.llm.finish_reasons import empty_answers_error, output_limit_error
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.tool_schemas import ToolSchemas
from a2a_gateway.agents.narration import Narrator, translate_event
from a2a_gateway.agents.recipe import AgentRecipe
from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.agents.tools.mcp_servers import McpServers
from a2a_gateway.agents.transcript import encode_transcript
from a2a_gateway.errors import (
    AgentFailed,
    AgentStuck,
    AnswerInvalid,
    BudgetExceeded,
    DeadlineExceeded,
    GatewayError,
    RunCancelled,
    RunError,
    StoreError,
    TurnsExceeded,
)
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome, RunEnded, RunnerEvent
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.runs.ports import Meter
from delegate_tool.binding import BoundClient
from delegate_tool.masking import Secrets

_CUT_OFF: Final = "max_tokens"


class _Stop(Enum):
    """The reason for which a run is stopped from outside."""

    CANCELLED = auto()
    DEADLINE = auto()


@dataclass(frozen=True, slots=True)
class Resources:
    """The objects that all executions share.

    Attributes:
        threads: for blocking code of the SDK that takes little time.
        tool_threads: for the agents' tools, and for blocking code of the SDK that waits.
        client: HTTP connections to this gateway itself, for delegations.
        checker: checks answers whose form a request sets.
    """

    toolbox: Toolbox
    checker: SchemaChecker
    threads: Executor
    tool_threads: ThreadPoolExecutor
    client: AsyncOpenAI
    schemas: ToolSchemas = field(default_factory=ToolSchemas)


class Execution:
    """One run. Create it, then await `drive` in a task of its own; `emit` is called on that task's event loop."""

    def __init__(
        self, run: AdmittedRun, recipe: AgentRecipe, meter: Meter, resources: Resources, emit: Callable[[RunnerEvent], None]
    ) -> None:
        self._run = run
        self._recipe = recipe
        self._resources = resources
        # An MCP server may take half a minute to start, and the runs of other agents must not wait for that.
        self._threads = resources.tool_threads if recipe.mcp_config else resources.threads
        self._emit = emit
        token = run.binding.token if run.binding else None
        self._secrets = Secrets.of([*recipe.secrets, token])
        self._mcp = McpServers(recipe.mcp_config, self._secrets)
        self._narrator = Narrator(run.narration, self._secrets, emit, keep_answer=run.answer_format is not None)
        self._account = RunAccount(meter, max_turns=run.record.limits.max_turns, emit=emit)
        self._stop: _Stop | None = None
        self._prepared: PreparedConversation | None = None
        self._agent_task: asyncio.Task[None] | None = None
        self._check_task: asyncio.Task[str] | None = None

    async def drive(self) -> None:
        """Run to the end. The last event is `RunEnded`; the conversation is closed after it."""
        deadline = asyncio.get_running_loop().call_later(self._run.timeout_s, self._request_stop, _Stop.DEADLINE)
        try:
            outcome = await self._execute()
            try:
                await self._account.close()
            except StoreError as error:
                outcome = self._outcome_of_error(error)
            self._emit(RunEnded(outcome, self._transcript()))
        finally:
            deadline.cancel()
            await self._close()

    def cancel(self) -> None:
        """Stop the run. It ends with `Cancelled`, unless it has already ended or reached its deadline."""
        self._request_stop(_Stop.CANCELLED)

    # ------------------------------------------------------------------ running

    async def _execute(self) -> Outcome:
        try:
            form = self._form()
            wiring = self._wiring()
            self._prepared = await self._prepare(wiring, form)
            await self._run_agent(self._prepared.conversation)
            outcome = self._outcome_of_run(self._prepared)
            return await self._emit_or_correct(outcome, form, self._prepared) if form else outcome
        except (GatewayError, ConversationRunError) as error:
            failure = failure_of(error, self._secrets)
            # An answer that was cut off while it was empty (`check_message`) ends the run at a limit, not as a failure.
            was_cut_off = type(failure) is RunError and self._prepared is not None and self._prepared.llm.answer_was_cut_off
            return self._outcome_of_error(failure, _CUT_OFF if was_cut_off else None)

    async def _prepare(self, wiring: Wiring, form: AnswerForm | None) -> PreparedConversation:
        try:
            return await self._in_thread(lambda: prepare(self._run, self._recipe, wiring, form))
        except AgentFailed as error:
            raise (self._stop_error() if self._is_stopped() else error) from None

    def _wiring(self) -> Wiring:
        binding, shared = self._run.binding, self._resources
        return Wiring(
            toolbox=shared.toolbox,
            tool_threads=shared.tool_threads,
            schemas=shared.schemas,
            account=self._account,
            observer=self._narrator,
            on_event=self._on_event,
            mcp=self._mcp,
            delegation=BoundClient.for_run(binding, shared.client, self._account.loop) if binding else None,
        )

    def _form(self) -> AnswerForm | None:
        wanted = self._run.answer_format
        return AnswerForm(wanted, self._resources.checker, user=self._run.record.key_id) if wanted else None

    async def _run_agent(self, conversation: LocalConversation) -> None:
        if self._is_stopped():
            return
        untyped: Any = conversation  # the SDK's decorators lose the signatures of its methods
        # In a task of its own, because `arun` swallows the cancellation that stops it.
        self._agent_task = asyncio.create_task(untyped.arun(), name=f"agent {self._run.record.id}")
        try:
            await self._agent_task
        except asyncio.CancelledError:
            if not self._is_stopped() or not self._agent_task.cancelled():
                raise
        finally:
            self._agent_task = None

    async def _emit_or_correct(self, outcome: Outcome, form: AnswerForm, prepared: PreparedConversation) -> Outcome:
        """Emit the answer if it has the requested form; otherwise let the agent correct it once."""
        try:
            return await self._emit_checked(outcome, form)
        except AnswerInvalid as error:
            correction = SDKMessage(role="user", content=[TextContent(text=form.correction(error))])
        untyped: Any = prepared.conversation  # see `_run_agent`
        await self._in_thread(lambda: untyped.send_message(correction))
        await self._run_agent(prepared.conversation)
        try:
            return await self._emit_checked(self._outcome_of_run(prepared), form)
        except AnswerInvalid as error:
            return Failed(error, self._narrator.answer)

    async def _emit_checked(self, outcome: Outcome, form: AnswerForm) -> Outcome:
        match outcome:
            case Finished():
                self._narrator.write(await self._check(form))
                return Finished(self._narrator.text)
            case Limited() if self._narrator.answer:
                with suppress(AnswerInvalid):  # the last call that the limit allowed may have completed the answer
                    self._narrator.write(await self._check(form))
                return replace(outcome, text=self._narrator.text)
            case _:
                return outcome

    async def _check(self, form: AnswerForm) -> str:
        """Return the answer, checked.

        Raises:
            AnswerInvalid: it does not have the requested form.
            DeadlineExceeded, RunCancelled: the run was stopped before the check had ended.
        """
        self._check_task = asyncio.create_task(form.check(self._narrator.answer), name=f"check {self._run.record.id}")
        if self._is_stopped():
            self._check_task.cancel()
        try:
            return await self._check_task
        except asyncio.CancelledError:
            if not self._is_stopped() or not self._check_task.cancelled():
                raise
            raise self._stop_error() from None
        finally:
            self._check_task = None

    # ------------------------------------------------------------------ ending

    def _outcome_of_run(self, prepared: PreparedConversation) -> Outcome:
        status = prepared.conversation.state.execution_status
        match status:
            case Status.FINISHED if prepared.llm.budget_is_spent:
                return self._outcome_of_error(budget_spent_error())
            case Status.FINISHED if prepared.llm.answer_was_cut_off:
                return self._outcome_of_error(output_limit_error(), reason=_CUT_OFF)
            case Status.FINISHED:
                return Finished(self._narrator.text)
            case Status.STUCK if prepared.last_answer_is_empty:
                return self._outcome_of_error(empty_answers_error())
            case Status.STUCK:
                return self._outcome_of_error(AgentStuck("The agent repeated itself without progress, and was stopped."))
            case Status.ERROR:
                return self._outcome_of_error(_error_of(prepared.conversation, self._secrets))
            case _ if self._stop is _Stop.DEADLINE:
                return self._outcome_of_error(self._stop_error())
            case _:
                return Cancelled(self._narrator.text)

    def _stop_error(self) -> GatewayError:
        if self._stop is _Stop.DEADLINE:
            return DeadlineExceeded(
                f"The agent did not finish within {self._run.timeout_s:g} s. Allow more time, or ask for less at once."
            )
        return RunCancelled("The run was cancelled before it had an answer.")

    def _outcome_of_error(self, error: GatewayError, reason: str | None = None) -> Outcome:
        """Return the outcome for an error: a limit ends a run with the text so far, any other error without an answer."""
        match error:
            case RunCancelled():
                return Cancelled(self._narrator.text, error.message)
            case BudgetExceeded() | DeadlineExceeded():
                reason = error.code
            case TurnsExceeded():
                reason = "max_turns"
        if reason is None:
            return Failed(error, self._narrator.text)
        if self._run.answer_format is None:
            self._narrator.write_last_narration()
        return Limited(self._narrator.text, reason, error)

    def _transcript(self) -> str:
        prepared = self._prepared
        return encode_transcript(prepared.system, prepared.llm_events(), self._secrets) if prepared else self._run.transcript

    async def _close(self) -> None:
        if self._prepared is not None:
            await self._in_thread(self._prepared.close)

    # ------------------------------------------------------------------ stopping, emitting

    def _is_stopped(self) -> bool:
        return self._stop is not None

    def _request_stop(self, why: _Stop) -> None:
        if self._stop is not None:
            return
        self._stop = why
        self._mcp.stop()
        if self._check_task is not None:
            self._check_task.cancel()
        if self._prepared is None or self._agent_task is None:
            return
        if self._prepared.conversation.cancel_token is None:
            self._agent_task.cancel()  # `arun` has not begun, and would reset an interrupt
        else:
            self._prepared.conversation.interrupt()

    def _on_event(self, event: Event) -> None:
        if self._agent_task is None:
            return  # the agent does not run: this event belongs to the history, or is the request for a correction
        translated = translate_event(event, self._secrets)
        if translated is not None:
            self._emit(translated)

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work)


def _error_of(conversation: LocalConversation, secrets: Secrets) -> GatewayError:
    """Return the error of a run that the SDK ended without raising one."""
    found = next((event for event in reversed(conversation.state.events) if isinstance(event, ConversationErrorEvent)), None)
    if found is None:
        return AgentFailed("The agent failed, and the SDK reported no reason.")
    if found.code == "MaxIterationsReached":
        return TurnsExceeded("The agent ran too many steps without an LLM call or an answer.")
    return AgentFailed(f"The agent failed: {secrets.mask(found.detail)[:400]}")
