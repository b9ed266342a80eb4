"""The SDK's LLM, metered: leave before every attempt, a booking after it, on both endpoints and in every ending.

Below it stand the run's account and prices. It decides nothing about an agent. What it needs of the SDK beyond its public
interface are five hooks (`_make_retry_decorator`, `_aiter_with_idle_timeout`, `Telemetry._compute_cost`, `_telemetry`, and that
a subclass keeps its private attributes in `model_copy`); `tests/agents/test_llm.py` fails when a new version moves one.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol, cast

from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import ModelResponse
from openhands.sdk import LLM
from openhands.sdk.llm import LLMResponse, Message, TextContent
from openhands.sdk.llm.exceptions.classifier import is_content_policy_violation
from openhands.sdk.llm.utils.telemetry import Telemetry
from openhands.sdk.tool import ToolDefinition
from pydantic import PrivateAttr

from a2a_gateway.agents.account import RunAccount
from a2a_gateway.agents.failures import Unrepeatable, is_quota_used_up
from a2a_gateway.agents.pieces import CallPiece, Piece, ReasoningPiece, TextPiece, pieces_of_chunk
from a2a_gateway.agents.pricing import LLMReply, Prices, estimate_usage, reported_cost, usage_of
from a2a_gateway.agents.tool_schemas import RenderedTool, ToolSchemas
from a2a_gateway.errors import ContentFiltered
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import TokenUsage

UNLIMITED_CHARS: Final = 2**31 - 1
"""For `LLM.max_message_chars`, which otherwise cuts long messages silently."""


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
    """One LLM call: one attempt, or several."""

    messages: Sequence[Message] = ()
    tools: Sequence[ToolDefinition[Any, Any]] = ()
    attempt: _Attempt = field(default_factory=_Attempt)
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_micro_usd: int | None = 0

    def prompt_chars(self) -> int:
        texts = [part.text for message in self.messages for part in message.content if isinstance(part, TextContent)]
        texts += [call.arguments for message in self.messages for call in message.tool_calls or ()]
        texts += [json.dumps(tool.to_openai_tool()) for tool in self.tools]
        return sum(map(len, texts))

    def book(self, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        self.usage += usage
        known = self.cost_micro_usd is not None and cost_micro_usd is not None
        self.cost_micro_usd = (self.cost_micro_usd or 0) + (cost_micro_usd or 0) if known else None


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
    _looked_up: tuple[str | None, ...] = PrivateAttr(default=())

    @property
    def cut_off(self) -> bool:
        """Whether the last answer ended because it reached the limit of output tokens."""
        return self._cut_off

    @property
    def refusal(self) -> Exception | None:
        """What the last call of a turn failed with, as the SDK words it; None if it was answered."""
        return self._refusal

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
        send, offered = super().acompletion, cast("Sequence[ToolDefinition[Any, Any]]", self._render(tools or ()))
        return await self._observed(messages, offered, lambda: send(messages, offered, *args, **self._streaming(kwargs)))

    async def aresponses(
        self, messages: list[Message], tools: Sequence[ToolDefinition[Any, Any]] | None = None, *args: Any, **kwargs: Any
    ) -> LLMResponse:
        send = super().aresponses
        return await self._observed(messages, tools, lambda: send(messages, tools, *args, **self._streaming(kwargs)))

    def _render(self, tools: Sequence[ToolDefinition[Any, Any]]) -> list[RenderedTool]:
        return [RenderedTool(tool, self._schemas) for tool in tools]

    def _streaming(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # The SDK streams only for somebody who listens; what listens here is `_aiter_with_idle_timeout`, which sees more.
        if self._observer is not None and kwargs.get("on_token") is None:
            return {**kwargs, "on_token": _ignore}
        return kwargs

    async def _observed(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolDefinition[Any, Any]] | None,
        send: Callable[[], Awaitable[LLMResponse]],
    ) -> LLMResponse:
        if _current_call.get() is not None:  # the SDK calls itself again, without prompt caching or with a fresh key
            return await send()
        call = _Call(messages, tools or ())
        token = _current_call.set(call)
        try:
            return await (self._turn(call, self._observer, send) if self._observer is not None else send())
        finally:
            _current_call.reset(token)

    async def _turn(self, call: _Call, observer: TurnObserver, send: Callable[[], Awaitable[LLMResponse]]) -> LLMResponse:
        self._account.begin_turn()
        observer.turn_started()
        ended, self._refusal = False, None
        try:
            response = await send()
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
            call = _current_call.get() or _Call()
            call.attempt = _Attempt()
            hold = await self._account.reserve()
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
                usage, cost_usd = self._charge(call)
                call.book(usage, await self._account.settle(hold, usage, cost_usd))

        return metered

    def _blocking(self, send: Callable[..., LLMReply]) -> Callable[..., LLMReply]:
        """Meter a side call that a tool makes from its own thread; on the loop's thread it would wait for itself."""

        def metered(*args: Any, **kwargs: Any) -> LLMReply:
            async def in_thread(*args: Any, **kwargs: Any) -> LLMReply:
                return await asyncio.to_thread(send, *args, **kwargs)

            async def observed() -> LLMReply:
                _current_call.set(_Call())
                return await self._metered(in_thread)(*args, **kwargs)

            return asyncio.run_coroutine_threadsafe(observed(), self._account.loop).result()

        return metered

    def _charge(self, call: _Call) -> tuple[TokenUsage, Decimal | None]:
        attempt = call.attempt
        if attempt.usage is not None:
            return attempt.usage, attempt.cost_usd
        if attempt.refused and not attempt.streamed_chars:
            return TokenUsage(), Decimal(0)
        usage = estimate_usage(call.prompt_chars(), attempt.streamed_chars)
        return usage, attempt.cost_usd if attempt.cost_usd is not None else self._prices.estimate_usd(usage)

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
