"""The SDK's LLM, metered: money is reserved before every attempt and settled after it, on both endpoints and however it ends.

The life of one call (`LLMCall`), which consists of one or more attempts (`Attempt`):

    step                      where                         what happens
    begin                     `_send_as_call`               measure the prompt, quote the most that the call may cost
    reserve the first hold    `_within_budget`              before the request is built: the hold may bound its output
    build the request         the SDK                       shorter output, less reasoning, a note about the budget
    for each attempt          `_meter`, inside the retries
      reserve                                               the first attempt uses the first hold
      follow                                                the ledger can ask what the attempt has used so far
      send, read the stream   `_aiter_with_idle_timeout`    pieces are counted, sanitised and passed to the observer
      settle                                                always: the reported usage, else an estimate, or 0 if refused
    end                       `_turn`, for turns only       report the sums of all attempts
    release                   `_within_budget`              if no attempt was made, the first hold is settled with 0

A turn is a call of the agent itself; a side call is any other (summaries, titles, tools). Two cases are special. The SDK may call
itself again inside a call, which counts as part of that call. A tool may call from its own thread; its attempts are metered on
the run's event loop.

Beyond the SDK's public interface, this module needs eight hooks (`_make_retry_decorator`,
`_aiter_with_idle_timeout`, `_apply_prompt_caching`, `_model_features`, `Telemetry._compute_cost` and `_record_usage`,
`_telemetry`, and that a subclass keeps its private attributes in `model_copy`). `tests/agents/llm/test_metered_llm.py`,
`test_llm_budget.py` and `tests/agents/test_run_failures.py` fail if a version moves one.
"""

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, Protocol, cast

from openhands.sdk import LLM
from openhands.sdk.llm import LLMResponse, Message
from openhands.sdk.llm.utils.model_features import ModelFeatures
from openhands.sdk.tool import ToolDefinition
from pydantic import PrivateAttr

from a2a_gateway.agents.llm.budget_notes import append_note, budget_note
from a2a_gateway.agents.llm.call import Attempt, LLMCall, current_call
from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from a2a_gateway.agents.llm.error_translation import shorten_texts
from a2a_gateway.agents.llm.finish_reasons import check_message, is_cut_off, is_refusal, reject_filtered, translate_failure
from a2a_gateway.agents.llm.observed_stream import TurnObserver, observe_stream
from a2a_gateway.agents.llm.priced_telemetry import PricedTelemetry
from a2a_gateway.agents.llm.pricing import LLMReply, Prices
from a2a_gateway.agents.llm.prompt_size import Prompt
from a2a_gateway.agents.llm.reasoning import bound_reasoning, without_thinking
from a2a_gateway.agents.llm.retrying import add_retries
from a2a_gateway.agents.llm.run_account import RunAccount
from a2a_gateway.agents.llm.sampling import accepted_stops, sampling_fields
from a2a_gateway.agents.llm.sanitizing import sanitize_message
from a2a_gateway.agents.llm.tool_schemas import RenderedTool, ToolSchemas
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import TokenUsage
from a2a_gateway.runs.ports import Hold
from delegate_tool.definition import WithheldDelegationTool

UNLIMITED_CHARS: Final = 2**31 - 1
"""For `LLM.max_message_chars`, which would otherwise truncate long messages silently."""
DEFAULT_MAX_OUTPUT_TOKENS: Final = 16_384
"""The maximum output of a call if neither the request, the profile nor LiteLLM's map sets one. Equal to the SDK's own cap."""


class _Send(Protocol):
    """Send a request with these messages; `last` forbids tools, because the budget allows no further call."""

    def __call__(self, messages: list[Message], /, *, last: bool) -> Awaitable[LLMResponse]: ...


class MeteredLLM(ConfiguredLLM):
    """An LLM of one run. Create it with `build_metered_llm`; a copy uses the same account."""

    _account: RunAccount = PrivateAttr()
    _prices: Prices = PrivateAttr()
    _observer: TurnObserver | None = PrivateAttr(default=None)
    _stop: tuple[str, ...] = PrivateAttr(default=())
    _answer_was_cut_off: bool = PrivateAttr(default=False)
    _last_error: Exception | None = PrivateAttr(default=None)
    _schemas: ToolSchemas = PrivateAttr()
    _budget_is_spent: bool = PrivateAttr(default=False)
    _retries_first_call: bool = PrivateAttr(default=True)
    _looked_up: tuple[str | None, ...] = PrivateAttr(default=())
    _features: tuple[object, ModelFeatures] | None = PrivateAttr(default=None)

    @property
    def answer_was_cut_off(self) -> bool:
        """Whether the last answer ended at the limit of output tokens."""
        return self._answer_was_cut_off

    @property
    def last_error(self) -> Exception | None:
        """The error of the last turn's call, as the SDK raised it; None if the call was answered."""
        return self._last_error

    @property
    def budget_is_spent(self) -> bool:
        """Whether the last turn was the last one that the budget allows."""
        return self._budget_is_spent

    @property
    def effective_max_output_tokens(self) -> int | None:
        """The maximum output of the current call: what its budget allows, else what the profile or the request sets."""
        call = current_call.get()
        return (call.output_bound if call else None) or super().effective_max_output_tokens

    def _refresh_litellm_metadata(self) -> None:
        """Look the model up only if it has changed. The SDK does it each time that this object becomes a field of another."""
        if self._looked_up != (model := _identity(self)):
            super()._refresh_litellm_metadata()
            self._looked_up = model

    def _model_features(self) -> ModelFeatures:
        """Return the model's features, looked up once. The SDK searches its lists of patterns ten times per call."""
        of = _identity(self), self._model_info, self.capability_overrides
        if self._features is None or self._features[0] != of:
            self._features = of, super()._model_features()
        return self._features[1]

    def reset_metrics(self) -> None:
        super().reset_metrics()
        telemetry = PricedTelemetry(model_name=self.model, metrics=self.metrics)
        telemetry._prices = self._prices
        self._telemetry = telemetry

    async def acompletion(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        if self._stop:
            kwargs.setdefault("stop", list(self._stop))
        visible = _visible_tools(tools)
        rendered = cast("Sequence[Any]", self._render(visible))

        async def complete(prompt: list[Message], *, last: bool) -> LLMResponse:
            # The tools stay in the request: without them, providers refuse a history that contains tool calls.
            options = {**self._with_streaming(kwargs), "tool_choice": "none"} if last else self._with_streaming(kwargs)
            return await LLM.acompletion(self._with_room(), prompt, rendered, *args, **options)

        return await self._send_as_call(messages, visible, complete, self._bound_in_chat)

    async def aresponses(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        visible = _visible_tools(tools)

        async def respond(prompt: list[Message], *, last: bool) -> LLMResponse:
            if last and (call := current_call.get()):
                call.choice = "none"  # the SDK ignores the option, and sends `auto`
            return await LLM.aresponses(self._with_room(), prompt, visible, *args, **self._with_streaming(kwargs))

        return await self._send_as_call(messages, visible, respond, self._bound_in_responses)

    def completion(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        with self._measure_side_call(messages, tools, self._bound_in_chat):
            return LLM.completion(self._with_room(), messages, tools, *args, **kwargs)

    def responses(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        with self._measure_side_call(messages, tools, self._bound_in_responses):
            return LLM.responses(self._with_room(), messages, tools, *args, **kwargs)

    def _with_room(self) -> "MeteredLLM":
        """Return this LLM, or a copy that reasons less if reasoning would use up the output that the call may produce."""
        call = current_call.get()
        if call is None:
            return self
        changes = bound_reasoning(self, call.output_bound, call.quote.max_output_tokens)
        return self.model_copy(update=changes) if changes else self

    @contextmanager
    def _measure_side_call(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None, bound_name: str | None
    ) -> Iterator[None]:
        """Measure a side call that a tool makes from its own thread, for `_meter_blocking`."""
        call = self._call(Prompt.of(messages, tools or (), self._schemas), bound_name, is_turn=False)
        call.taken_call_ids = _call_ids(messages)
        token = current_call.set(call)
        try:
            yield
        finally:
            current_call.reset(token)

    def _render(self, tools: Sequence[ToolDefinition[Any, Any]]) -> list[RenderedTool]:
        return [RenderedTool(tool, self._schemas) for tool in tools]

    def _with_streaming(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # The SDK streams only with a callback. It does nothing, because `_aiter_with_idle_timeout` receives more than a callback.
        if self._observer is not None and kwargs.get("on_token") is None:
            return {**kwargs, "on_token": _ignore}
        return kwargs

    @property
    def _bound_in_chat(self) -> str:
        return "max_tokens" if self.model.startswith("azure") else "max_completion_tokens"

    @property
    def _bound_in_responses(self) -> str | None:
        return None if self.is_subscription else "max_output_tokens"

    async def _send_as_call(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]], send: _Send, bound_name: str | None
    ) -> LLMResponse:
        if current_call.get() is not None:  # the SDK repeats its own call, without prompt caching or with a new key
            return await send(messages, last=False)
        call = self._call(Prompt.of(messages, tools, self._schemas), bound_name, is_turn=self._observer is not None)
        call.taken_call_ids = _call_ids(messages)
        token = current_call.set(call)
        try:
            if self._observer is not None:
                return await self._turn(call, self._observer, messages, send)
            return await self._within_budget(call, lambda: send(messages, last=False))
        finally:
            current_call.reset(token)

    def _call(self, prompt: Prompt, bound_name: str | None = None, *, is_turn: bool) -> LLMCall:
        most = super().effective_max_output_tokens
        if most is None:
            context_tokens = self.effective_max_input_tokens
            most = min(DEFAULT_MAX_OUTPUT_TOKENS, context_tokens // 2 if context_tokens else DEFAULT_MAX_OUTPUT_TOKENS)
        quote = replace(self._prices.quote(prompt.most_tokens(), most), is_turn=is_turn)
        call = LLMCall(quote, prompt, bound_name, is_streamed=self.stream)
        call.quote = replace(quote, sent_micro_usd=call.used_micro_usd())
        return call

    async def _within_budget(self, call: LLMCall, send: Callable[[], Awaitable[LLMResponse]]) -> LLMResponse:
        """Reserve money before the request is built, because the request may have to ask for less output."""
        call.hold = await self._account.reserve(call.quote)
        if call.hold.budget_micro_usd is not None and call.quote.usd_per_output_token:
            # Free output needs no bound, and a small self-hosted model might refuse a bound larger than its context.
            call.output_bound = call.hold.max_output_tokens
        try:
            response = await send()
            sanitize_message(response.message)
            return response
        finally:
            if call.hold is not None:  # no attempt was made
                await self._account.settle(call.hold, TokenUsage(), Decimal(0), turns=0)

    async def _turn(self, call: LLMCall, observer: TurnObserver, messages: list[Message], send: _Send) -> LLMResponse:
        self._account.begin_turn()
        observer.begin_turn()
        ended, self._answer_was_cut_off, self._last_error, call.turns = False, False, None, 1

        async def send_with_note() -> LLMResponse:
            hold = call.hold
            self._budget_is_spent = hold is not None and hold.last
            note = None if hold is None else budget_note(hold)
            call.is_noted = note is not None
            return await send(messages if note is None else append_note(messages, note), last=self._budget_is_spent)

        try:
            response = await self._within_budget(call, send_with_note)
            self._answer_was_cut_off = is_cut_off(response.raw_response)
            check_message(response.message, was_cut_off=self._answer_was_cut_off, budget_is_spent=self._budget_is_spent)
            observer.end_turn(response.message)
            ended = True
            return response
        except Exception as error:
            self._last_error = error
            raise
        finally:
            if not ended:
                observer.abort_turn()
            self._account.end_turn(call.usage, call.cost_micro_usd)

    def _apply_prompt_caching(self, messages: list[Message]) -> None:
        """Mark the prompt for caching, without a budget note, which the next call's prompt will not contain."""
        call = current_call.get()
        super()._apply_prompt_caching(messages[:-1] if call and call.is_noted else messages)

    def _make_retry_decorator(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        retry = super()._make_retry_decorator()

        def decorate(attempt: Callable[..., Any]) -> Callable[..., Any]:
            if not inspect.iscoroutinefunction(attempt):
                return retry(self._meter_blocking(attempt))
            # A client that retries requests itself needs no retries of the first call. After the first answer a client cannot
            # retry any more, so later calls are always retried here.
            once = not self._retries_first_call and self._account.turns <= 1
            return add_retries(retry, self._meter(attempt), once=once)

        return decorate

    def _meter(self, send: Callable[..., Awaitable[LLMReply]]) -> Callable[..., Awaitable[LLMReply]]:
        async def send_metered(*args: Any, **kwargs: Any) -> LLMReply:
            call = current_call.get() or self._call(Prompt(), is_turn=False)
            call.attempt = Attempt()
            hold, call.hold = call.hold or await self._account.reserve(call.quote), None
            self._account.follow(hold, call.used_micro_usd)
            try:
                return reject_filtered(await send(*args, **{**self.parameters, **kwargs, **self._amendments(call, hold)}))
            except Exception as error:
                shorten_texts(error)
                call.attempt.refused = is_refusal(error)
                translated = translate_failure(error, is_shown=bool(call.attempt.streamed_bytes))
                if translated is not error:
                    raise translated from error
                raise
            finally:
                usage, cost_usd, complete = call.charge(hold, self._prices)
                turns, call.turns = call.turns, 0
                call.book(usage, await self._account.settle(hold, usage, cost_usd, complete=complete, turns=turns))

        return send_metered

    def _amendments(self, call: LLMCall, hold: Hold) -> dict[str, object]:
        amended = call.amendments(hold)
        most = amended.get(call.bound_name or "")
        return {**amended, **without_thinking(self, most)} if isinstance(most, int) else amended

    def _meter_blocking(self, send: Callable[..., LLMReply]) -> Callable[..., LLMReply]:
        """Meter a side call that a tool makes from its own thread. On the event loop's thread it would deadlock."""

        def send_blocking(*args: Any, **kwargs: Any) -> LLMReply:
            call = current_call.get() or self._call(Prompt(), is_turn=False)

            async def in_thread(*args: Any, **kwargs: Any) -> LLMReply:
                return await asyncio.to_thread(send, *args, **kwargs)

            async def send_on_loop() -> LLMReply:
                current_call.set(call)
                return await self._meter(in_thread)(*args, **kwargs)

            return asyncio.run_coroutine_threadsafe(send_on_loop(), self._account.loop).result()

        return send_blocking

    def _aiter_with_idle_timeout(self, stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
        items = super()._aiter_with_idle_timeout(stream)
        return observe_stream(items, stream, current_call.get(), self._observer, self.model)


def build_metered_llm(
    template: LLM,
    account: RunAccount,
    prices: Prices,
    *,
    sampling: Sampling | None = None,
    observer: TurnObserver | None = None,
    schemas: ToolSchemas | None = None,
    retries_first_call: bool = True,
    **changes: object,
) -> MeteredLLM:
    """Build the LLM of one run from a template. It books its calls to `account`, and passes its answers to `observer`.

    It streams if it has an observer and calls tools natively. The mark-up of a tool call by prompting must not reach the caller.
    """
    sampling = sampling or Sampling()
    fields = vars(template) | sampling_fields(template, sampling)
    # A fallback LLM would not be metered.
    fields |= {
        "max_message_chars": UNLIMITED_CHARS,
        "fallback_strategy": None,
        "stream": template.stream and observer is not None and template.native_tool_calling,
    }
    # Without validation: the template is valid already, and validation would drop its private attributes.
    llm = MeteredLLM.model_construct(**{**fields, **changes})
    for name, value in (template.__pydantic_private__ or {}).items():
        setattr(llm, name, value)
    llm._account, llm._prices, llm._observer = account, prices, observer
    llm._stop = accepted_stops(template, sampling)
    llm._schemas = ToolSchemas() if schemas is None else schemas
    llm._retries_first_call = retries_first_call
    llm._looked_up = _identity(template)
    llm.reset_metrics()
    return llm


def _identity(llm: LLM) -> tuple[str | None, ...]:
    """Return the fields on which the SDK's information about a model depends."""
    return llm.model, llm.base_url, llm.model_canonical_name


def _visible_tools(tools: Sequence[ToolDefinition[Any, Any]] | None) -> list[ToolDefinition[Any, Any]]:
    return [tool for tool in tools or () if not isinstance(tool, WithheldDelegationTool)]


def _call_ids(messages: Sequence[Message]) -> frozenset[str]:
    return frozenset(call.id for message in messages for call in message.tool_calls or ())


def _ignore(_: object) -> None:
    """Do nothing; as a callback it turns streaming on."""
