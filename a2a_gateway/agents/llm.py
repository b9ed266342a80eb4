"""The SDK's LLM, metered: leave before every attempt, a booking after it, on both endpoints and in every ending.

Below it stand the run's account and prices. It decides nothing about an agent. What it needs of the SDK beyond its public
interface are five hooks (`_make_retry_decorator`, `_aiter_with_idle_timeout`, `Telemetry._compute_cost`, `_telemetry`, and that
a subclass keeps its private attributes in `model_copy`); `tests/agents/test_llm.py` fails when a new version moves one.
"""

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol, cast

from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import ModelResponse
from openhands.sdk import LLM
from openhands.sdk.llm import LLMResponse, Message
from openhands.sdk.llm.exceptions.classifier import is_content_policy_violation
from openhands.sdk.llm.utils.telemetry import Telemetry
from openhands.sdk.tool import ToolDefinition
from pydantic import PrivateAttr

from a2a_gateway.agents.account import RunAccount
from a2a_gateway.agents.budget_notes import calls_tools, note_of, spent_up
from a2a_gateway.agents.failures import Unrepeatable, is_quota_used_up
from a2a_gateway.agents.pieces import CallPiece, Piece, ReasoningPiece, TextPiece, pieces_of_chunk
from a2a_gateway.agents.pricing import LLMReply, Prices, estimate_usage, reported_cost, usage_of
from a2a_gateway.agents.prompt import Prompt
from a2a_gateway.agents.tool_schemas import RenderedTool, ToolSchemas
from a2a_gateway.errors import ContentFiltered
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import CallQuote, TokenUsage
from a2a_gateway.runs.ports import Hold

UNLIMITED_CHARS: Final = 2**31 - 1
"""For `LLM.max_message_chars`, which otherwise cuts long messages silently."""
DEFAULT_MAX_OUTPUT_TOKENS: Final = 16_384
"""What a call is taken to produce at most where neither request, profile nor LiteLLM's map says; the SDK's own cap, too."""


class TurnObserver(Protocol):
    """Is shown the LLM's answers while they arrive."""

    def turn_started(self) -> None: ...

    def add(self, piece: Piece) -> None: ...

    def turn_ended(self, message: Message) -> None: ...

    def turn_broken(self) -> None: ...


@dataclass(slots=True)
class _Attempt:
    """One request to the provider: what is known of it so far."""

    streamed_chars: int = 0
    reported: Decimal | None = None
    usage: TokenUsage | None = None
    cost_usd: Decimal | None = None
    refused: bool = False


@dataclass(slots=True)
class _Call:
    """One LLM call: one attempt, or several.

    Attributes:
        hold: got before the request was built, for the first attempt; each further one gets its own.
        turns: that the next booking counts; a side call, and a repeated attempt, is none.
    """

    quote: CallQuote
    prompt: Prompt
    hold: Hold | None = None
    turns: int = 0
    attempt: _Attempt = field(default_factory=_Attempt)
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_micro_usd: int | None = 0

    def book(self, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        self.usage += usage
        known = self.cost_micro_usd is not None and cost_micro_usd is not None
        self.cost_micro_usd = (self.cost_micro_usd or 0) + (cost_micro_usd or 0) if known else None


class _Send(Protocol):
    """Makes the request, with these messages; the `last` one that the budget allows asks for no tool."""

    def __call__(self, messages: list[Message], /, *, last: bool) -> Awaitable[LLMResponse]: ...


_current_call: ContextVar[_Call | None] = ContextVar("current_llm_call", default=None)


class _PricedTelemetry(Telemetry):
    """The SDK's bookkeeping with our prices, so that its metrics and the ledger say the same."""

    _prices: Prices = PrivateAttr()

    def _compute_cost(self, resp: LLMReply, provider_info: object = None) -> float | None:
        attempt = call.attempt if (call := _current_call.get()) else _Attempt()
        attempt.usage = usage_of(resp)
        attempt.cost_usd = self._prices.cost_usd(resp, attempt.usage or TokenUsage(), attempt.reported)
        return None if attempt.cost_usd is None else float(attempt.cost_usd)


class MeteredLLM(LLM):
    """An LLM of one run. Make it with `metered`; a copy books to the same account."""

    _account: RunAccount = PrivateAttr()
    _prices: Prices = PrivateAttr()
    _observer: TurnObserver | None = PrivateAttr(default=None)
    _stop: tuple[str, ...] = PrivateAttr(default=())
    _cut_off: bool = PrivateAttr(default=False)
    _refusal: Exception | None = PrivateAttr(default=None)
    _schemas: ToolSchemas = PrivateAttr()
    _output_bound: int | None = PrivateAttr(default=None)
    _spent: bool = PrivateAttr(default=False)
    _looked_up: tuple[str | None, ...] = PrivateAttr(default=())

    @property
    def cut_off(self) -> bool:
        """Whether the last answer ended because it reached the limit of output tokens."""
        return self._cut_off

    @property
    def refusal(self) -> Exception | None:
        """What the last call of a turn failed with, as the SDK words it; None if it was answered."""
        return self._refusal

    @property
    def spent(self) -> bool:
        """Whether the agent has had the last call that its budget allows."""
        return self._spent

    @property
    def effective_max_output_tokens(self) -> int | None:
        """The most that the call under way may produce: what its budget allows, else what the profile or the request says."""
        return self._output_bound or super().effective_max_output_tokens

    def _refresh_litellm_metadata(self) -> None:
        """Look up the model only where it has changed: the SDK does so each time that this object enters another."""
        if self._looked_up != (model := _identity(self)):
            super()._refresh_litellm_metadata()
            self._looked_up = model

    def reset_metrics(self) -> None:
        super().reset_metrics()
        telemetry = _PricedTelemetry(model_name=self.model, metrics=self.metrics)
        telemetry._prices = self._prices
        self._telemetry = telemetry

    async def acompletion(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        if self._stop:
            kwargs.setdefault("stop", list(self._stop))
        send, offered = super().acompletion, self._render(tools or ())

        async def complete(said: list[Message], *, last: bool) -> LLMResponse:
            # The tools stay in the request, because providers refuse a history of tool calls without them.
            options = {**self._streaming(kwargs), "tool_choice": "none"} if last else self._streaming(kwargs)
            return await send(said, cast("Sequence[Any]", offered), *args, **options)

        return await self._observed(messages, tools or (), complete)

    async def aresponses(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        send = super().aresponses

        async def respond(said: list[Message], *, last: bool) -> LLMResponse:
            return await send(said, None if last else tools, *args, **self._streaming(kwargs))

        return await self._observed(messages, tools or (), respond)

    def completion(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        with self._measured(messages, tools):
            return super().completion(messages, tools, *args, **kwargs)

    def responses(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        with self._measured(messages, tools):
            return super().responses(messages, tools, *args, **kwargs)

    @contextmanager
    def _measured(self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None) -> Iterator[None]:
        """Tell `_blocking` how large a side call from a tool's own thread is."""
        token = _current_call.set(self._call(Prompt.of(messages, tools or (), self._schemas)))
        try:
            yield
        finally:
            _current_call.reset(token)

    def _render(self, tools: Sequence[ToolDefinition[Any, Any]]) -> list[RenderedTool]:
        return [RenderedTool(tool, self._schemas) for tool in tools]

    def _streaming(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # The SDK streams only for somebody who listens; what listens here is `_aiter_with_idle_timeout`, which sees more.
        if self._observer is not None and kwargs.get("on_token") is None:
            return {**kwargs, "on_token": _ignore}
        return kwargs

    async def _observed(self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]], send: _Send) -> LLMResponse:
        if _current_call.get() is not None:  # the SDK calls itself again, without prompt caching or with a fresh key
            return await send(messages, last=False)
        call = self._call(Prompt.of(messages, tools, self._schemas))
        token = _current_call.set(call)
        try:
            if self._observer is not None:
                return await self._turn(call, self._observer, messages, send)
            return await self._within_budget(call, lambda: send(messages, last=False))
        finally:
            _current_call.reset(token)

    def _call(self, prompt: Prompt) -> _Call:
        most = super().effective_max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        return _Call(self._prices.quote(prompt.most_tokens(), most), prompt)

    async def _within_budget(self, call: _Call, send: Callable[[], Awaitable[LLMResponse]]) -> LLMResponse:
        """Have the money set aside before the request is built, because it may have to ask for less output."""
        call.hold = await self._account.reserve(call.quote)
        if call.hold.budget_micro_usd is not None:
            self._output_bound = call.hold.max_output_tokens
        try:
            return await send()
        finally:
            self._output_bound = None
            if call.hold is not None:  # no attempt was made
                await self._account.settle(call.hold, TokenUsage(), Decimal(0), turns=0)

    async def _turn(self, call: _Call, observer: TurnObserver, messages: list[Message], send: _Send) -> LLMResponse:
        self._account.begin_turn()
        observer.turn_started()
        ended, self._refusal, call.turns = False, None, 1

        async def send_with_note() -> LLMResponse:
            hold = call.hold
            self._spent = hold is not None and hold.last
            note = None if hold is None else note_of(hold)
            return await send([*messages, note] if note else messages, last=self._spent)

        try:
            response = await self._within_budget(call, send_with_note)
            if self._spent and calls_tools(response.message):
                raise spent_up()
            self._cut_off = _is_cut_off(response.raw_response)
            observer.turn_ended(response.message)
            ended = True
            return response
        except Exception as error:
            self._refusal = error
            raise
        finally:
            if not ended:
                observer.turn_broken()
            self._account.end_turn(call.usage, call.cost_micro_usd)

    def _make_retry_decorator(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        retry = super()._make_retry_decorator()
        return lambda attempt: retry(self._metered(attempt) if inspect.iscoroutinefunction(attempt) else self._blocking(attempt))

    def _metered(self, send: Callable[..., Awaitable[LLMReply]]) -> Callable[..., Awaitable[LLMReply]]:
        async def metered(*args: Any, **kwargs: Any) -> LLMReply:
            call = _current_call.get() or self._call(Prompt())
            call.attempt = _Attempt()
            hold, call.hold = call.hold or await self._account.reserve(call.quote), None
            try:
                return _unfiltered(await send(*args, **kwargs))
            except Exception as error:
                call.attempt.refused = _is_refusal(error)
                if is_content_policy_violation(error) or _is_filtered_answer(error):
                    raise ContentFiltered("The LLM provider's content filter blocked the request or its answer.") from error
                if call.attempt.streamed_chars or is_quota_used_up(error):
                    raise Unrepeatable(str(error)) from error
                raise
            finally:
                usage, cost_usd, complete = self._charge(call)
                turns, call.turns = call.turns, 0
                call.book(usage, await self._account.settle(hold, usage, cost_usd, complete=complete, turns=turns))

        return metered

    def _blocking(self, send: Callable[..., LLMReply]) -> Callable[..., LLMReply]:
        """Meter a side call that a tool makes from its own thread; on the loop's thread it would wait for itself."""

        def metered(*args: Any, **kwargs: Any) -> LLMReply:
            call = _current_call.get() or self._call(Prompt())

            async def in_thread(*args: Any, **kwargs: Any) -> LLMReply:
                return await asyncio.to_thread(send, *args, **kwargs)

            async def observed() -> LLMReply:
                _current_call.set(call)
                return await self._metered(in_thread)(*args, **kwargs)

            return asyncio.run_coroutine_threadsafe(observed(), self._account.loop).result()

        return metered

    def _charge(self, call: _Call) -> tuple[TokenUsage, Decimal | None, bool]:
        """What an attempt used, what it cost, and whether that is certain."""
        attempt = call.attempt
        if attempt.usage is None and attempt.refused and not attempt.streamed_chars:
            return TokenUsage(), Decimal(0), True
        usage = attempt.usage or estimate_usage(call.prompt.chars, attempt.streamed_chars)
        cost_usd = attempt.cost_usd
        if cost_usd is None and attempt.usage is None:
            cost_usd = self._prices.estimate_usd(usage)
        if cost_usd is None:
            return usage, self._prices.nominal_usd(usage), False
        return usage, cost_usd, attempt.usage is not None

    async def _aiter_with_idle_timeout(self, stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
        call = _current_call.get()
        async for item in super()._aiter_with_idle_timeout(stream):
            if call is not None:
                self._observe(call.attempt, item)
                # What has arrived in one piece is otherwise read in one go, while every other run of the process waits.
                await asyncio.sleep(0)
            yield item

    def _observe(self, attempt: _Attempt, item: object) -> None:
        attempt.reported = reported_cost(item) or attempt.reported
        for piece in pieces_of_chunk(item):
            attempt.streamed_chars += _length(piece)
            if self._observer is not None:
                self._observer.add(piece)


def metered(
    template: LLM,
    account: RunAccount,
    prices: Prices,
    *,
    sampling: Sampling | None = None,
    observer: TurnObserver | None = None,
    schemas: ToolSchemas | None = None,
    **changes: object,
) -> MeteredLLM:
    """Copy a template for one run: metrics of its own, calls booked to `account`, shown to `observer`.

    Streams if somebody observes and the LLM calls tools natively; a prompted tool call would show its mark-up.
    """
    asked = sampling or Sampling()
    fields = {name: getattr(template, name) for name in LLM.model_fields} | _sampled(template, asked)
    # Another LLM to fall back on would not be metered.
    fields |= {
        "max_message_chars": UNLIMITED_CHARS,
        "fallback_strategy": None,
        "stream": template.stream and observer is not None and template.native_tool_calling,
    }
    # The template has been validated; to validate it again would lose what it holds outside its fields.
    llm = MeteredLLM.model_construct(**{**fields, **changes})
    for name, value in (template.__pydantic_private__ or {}).items():
        setattr(llm, name, value)
    llm._account, llm._prices, llm._observer, llm._stop = account, prices, observer, asked.stop
    llm._schemas = ToolSchemas() if schemas is None else schemas
    llm._looked_up = _identity(template)
    llm.reset_metrics()
    return llm


def _identity(llm: LLM) -> tuple[str | None, ...]:
    """Name what the SDK's knowledge of a model depends on."""
    return llm.model, llm.base_url, llm.model_canonical_name


def _sampled(template: LLM, asked: Sampling) -> dict[str, object]:
    """Name the fields that a request changes."""
    named: dict[str, object] = {"temperature": asked.temperature, "top_p": asked.top_p, "seed": asked.seed}
    named |= {"max_output_tokens": asked.max_output_tokens, "reasoning_effort": asked.reasoning_effort}
    if template.model_info is None and (asked.temperature is not None or asked.top_p is not None):
        # The SDK takes a model that it does not know for one that refuses them.
        named["capability_overrides"] = {"supports_sampling_params": True, **template.capability_overrides}
    return {name: value for name, value in named.items() if value is not None}


def _ignore(_: object) -> None:
    """Listen to a stream."""


def _length(piece: Piece) -> int:
    match piece:
        case TextPiece(text=text) | ReasoningPiece(text=text):
            return len(text)
        case CallPiece(name=name, arguments=arguments):
            return len(name) + len(arguments)


def _is_refusal(error: Exception) -> bool:
    """Whether the provider, or the network, turned the request down before it worked on it; a timeout is work not waited for."""
    return not isinstance(error, TimeoutError) and getattr(error, "status_code", None) not in (None, 200, 408)


def _is_filtered_answer(error: Exception) -> bool:
    # Azure answers 200 without a message, which LiteLLM cannot read: the reason is only in what it quotes.
    return "'finish_reason': 'content_filter'" in str(error)


def _unfiltered(reply: LLMReply) -> LLMReply:
    """Pass a reply on unless it was blocked.

    Raises:
        ContentFiltered: it was; the agent would take it for an empty answer and ask again, at the same price.
    """
    if isinstance(reply, ModelResponse) and reply.choices[0].finish_reason == "content_filter":
        raise ContentFiltered("The LLM provider's content filter blocked the answer.")
    return reply


def _is_cut_off(reply: object) -> bool:
    if isinstance(reply, ResponsesAPIResponse):
        return getattr(reply.incomplete_details, "reason", None) == "max_output_tokens"
    return isinstance(reply, ModelResponse) and reply.choices[0].finish_reason == "length"
