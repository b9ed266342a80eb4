"""Determine the usage and the cost of one LLM call.

The cost is taken from the first of these sources that has one greater than zero:

    1. the provider's bill: the header of a LiteLLM proxy, or OpenRouter's `usage.cost`
    2. the profile's own prices
    3. any other `usage.cost`
    4. LiteLLM's price map
    5. nothing, for a local server: it charges nothing

A reported cost of zero counts only if no price contradicts it: proxies report zero for models whose price they do not know.
Without any source the cost is unknown, which is not the same as free. Money is exact here (`Decimal` USD). `ExactSum` turns it
into whole micro-USD and rounds the sum of a run once, not every call.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import litellm
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import ModelResponse, ModelResponseStream

from a2a_gateway.runs.model import CallQuote, PriceSource, TokenUsage
from delegate_tool.protocol.money import MAX_USD, MICRO_PER_USD

type LLMReply = ModelResponse | ResponsesAPIResponse

_PROMPT_PRICES = frozenset({"input_cost_per_token", "cache_creation_input_token_cost"})
_OUTPUT_PRICES = frozenset({"output_cost_per_token", "output_cost_per_reasoning_token"})
_MOST_TOKENS = 10**9  # far more than one call can use; a report of more, or of a negative number, is ignored
_COST_HEADER = "llm_provider-x-litellm-response-cost"  # LiteLLM's name for the upstream's own header


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of one LLM.

    Attributes:
        model: LiteLLM's name of the model, with its provider.
        input_usd_per_token, output_usd_per_token: the profile's own prices; both are set, or both are None.
        cached_input_usd_per_token: the price of prompt tokens that the provider had cached; None if it is the same.
        is_local: whether the LLM's server is the user's own, so that it is free unless a price is known.
        unpriced_usd_per_token: the price at which tokens count against budgets if no price is known; with None, a model without
            a price can have no budget.
    """

    model: str
    input_usd_per_token: float | None = None
    output_usd_per_token: float | None = None
    unpriced_usd_per_token: Decimal | None = None
    cached_input_usd_per_token: float | None = None
    is_local: bool = False

    @property
    def source(self) -> PriceSource | None:
        """Where the prices come from; None if no price is known, so that calls cannot be quoted."""
        if self.input_usd_per_token is not None:
            return "configured"
        if self.is_local and not self._has_price():
            return "local"
        if self._is_mapped:
            return "litellm"
        return None if self.unpriced_usd_per_token is None else "assumed"

    @property
    def are_free(self) -> bool:
        """Whether a call certainly costs nothing, unless the server reports a cost: a local LLM without any price."""
        return self.is_local and self.input_usd_per_token is None and not self._is_mapped

    def quote(self, prompt_tokens: int, max_output_tokens: int) -> CallQuote:
        """Return the most that a call may cost, before it is made."""
        prompt, output = self._bounds(prompt_tokens) or (self.unpriced_usd_per_token,) * 2
        return CallQuote(prompt_tokens, max_output_tokens, prompt, output)

    def nominal_usd(self, usage: TokenUsage) -> Decimal | None:
        """Price tokens of a model without a price at the substitute price; None if there is no substitute."""
        return None if self.unpriced_usd_per_token is None else (usage.prompt + usage.completion) * self.unpriced_usd_per_token

    def cost_usd(self, reply: LLMReply, usage: TokenUsage | None, reported: Decimal | None) -> Decimal | None:
        """Price a whole reply; None if no price is known, or no `usage` to apply it to.

        `reported` is the cost that the provider reported: `cost_in_stream`, or `reported_cost` of a reply that was not streamed.
        """
        # For OpenRouter, LiteLLM fills the header, too, but only with the fee if the caller uses a provider key of its own.
        bill = reported if self.model.startswith("openrouter/") else _header_cost(reply)
        own = None if usage is None else self._own_cost(usage)
        for cost in (bill or None, own, reported or None):
            if cost is not None:
                return cost
        if self.are_free:  # whatever the name that the server gives its model costs elsewhere
            return Decimal(0)
        reports_zero = bill is not None or reported is not None
        if usage is None:
            return Decimal(0) if reports_zero and not self._has_price() else None
        priced = self._mapped_cost(reply)
        return Decimal(0) if priced is None and reports_zero else priced

    def estimate_usd(self, usage: TokenUsage) -> Decimal | None:
        """Price an estimated usage; None if no price is known."""
        own = self._own_cost(usage)
        if own is not None:
            return own
        name = next(_priced_names([self.model]), None)
        if name is None:
            return Decimal(0) if self.is_local else None
        parts = litellm.cost_per_token(
            model=name,
            custom_llm_provider=_provider(name),
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
        )
        return sum((_to_decimal(part) for part in parts), Decimal(0))

    def _bounds(self, prompt_tokens: int) -> tuple[Decimal, Decimal] | None:
        """Return the highest prices of a prompt token and an output token in a call of this size."""
        if self.input_usd_per_token is not None and self.output_usd_per_token is not None:
            return _to_decimal(self.input_usd_per_token), _to_decimal(self.output_usd_per_token)
        name = next(_priced_names([self.model]), None)
        if name is None:
            return (Decimal(0), Decimal(0)) if self.is_local else None
        entry = litellm.model_cost[name]
        return _highest_price(entry, _PROMPT_PRICES, prompt_tokens), _highest_price(entry, _OUTPUT_PRICES, prompt_tokens)

    @property
    def _is_mapped(self) -> bool:
        return next(_priced_names([self.model]), None) is not None

    def _has_price(self) -> bool:
        """Return whether a price above zero is known."""
        return any(self._bounds(0) or ())

    def _own_cost(self, usage: TokenUsage) -> Decimal | None:
        if self.input_usd_per_token is None or self.output_usd_per_token is None:
            return None
        of_input, of_output, of_cached = self.input_usd_per_token, self.output_usd_per_token, self.cached_input_usd_per_token
        cached = 0 if of_cached is None else min(usage.cached, usage.prompt)
        prompt = (usage.prompt - cached) * _to_decimal(of_input) + cached * _to_decimal(of_cached or 0)
        return prompt + usage.completion * _to_decimal(of_output)

    def _mapped_cost(self, reply: LLMReply) -> Decimal | None:
        provider = self.model.partition("/")[0]
        answered = _answered_name(reply)
        # The requested name may be an alias, so the name in the reply has precedence.
        name = next(_priced_names([answered, f"{provider}/{answered}", self.model] if answered else [self.model]), None)
        if name is None:
            return None
        # `base_model`, because LiteLLM prefers the reply's name to `model`, and treats a model that it does not list as free.
        return _parse_cost(
            litellm.completion_cost(completion_response=reply, model=name, base_model=name, custom_llm_provider=_provider(name))
        )


def usage_of(reply: LLMReply) -> TokenUsage | None:
    """Return the token counts that a reply reports; None if there are none, or impossible ones."""
    usage: Any = getattr(reply, "usage", None)
    if usage is None:
        return None
    chat = isinstance(reply, ModelResponse)
    prompt, completion = ("prompt_tokens", "completion_tokens") if chat else ("input_tokens", "output_tokens")
    prompt_details = getattr(usage, f"{prompt}_details", None)
    completion_details = getattr(usage, f"{completion}_details", None)
    read = TokenUsage(
        prompt=int(getattr(usage, prompt, 0) or 0),
        completion=int(getattr(usage, completion, 0) or 0),
        cached=int(getattr(prompt_details, "cached_tokens", 0) or 0),
        reasoning=int(getattr(completion_details, "reasoning_tokens", 0) or 0),
    )
    total = int(getattr(usage, "total_tokens", 0) or 0)
    if read.reasoning and (read.reasoning > read.completion or total == read.prompt + read.completion + read.reasoning):
        # Some providers count reasoning in addition to the completion; OpenAI counts it as a part of the completion.
        read = replace(read, completion=read.completion + read.reasoning)
    # Tokens written to the provider's cache, a part of the prompt.
    written = int(getattr(prompt_details, "cache_creation_tokens", 0) or 0)
    is_possible = all(
        0 <= tokens <= _MOST_TOKENS for tokens in (read.prompt, read.completion, read.cached, read.reasoning, written)
    )
    return read if is_possible and (read.prompt or read.completion) else None


def reports_usage(stream: object) -> bool:
    """Return whether a stream that has ended reported its usage. If a chat completion does not, LiteLLM counts the tokens."""
    # Backwards, because the usage is mostly in the last chunk, and searching a chunk without it is slow.
    return not isinstance(stream, CustomStreamWrapper) or any(getattr(chunk, "usage", None) for chunk in reversed(stream.chunks))


def cost_in_stream(stream: object) -> Decimal | None:
    """Return the reported cost from the chunks of a stream that has ended.

    Not from LiteLLM's last item, nor from the reply that the SDK assembles: they have only a part of the usage, and in a process
    with callbacks for LiteLLM a cost that LiteLLM has computed.
    """
    if not isinstance(stream, CustomStreamWrapper):
        return None
    reported = (reported_cost(chunk) for chunk in reversed(stream.chunks) if getattr(chunk, "usage", None))
    return next((cost for cost in reported if cost is not None), None)


def answer_bytes(reply: LLMReply) -> int:
    """Return the length of an answer with its reasoning and tool calls, and a little more for the JSON around them."""
    if isinstance(reply, ResponsesAPIResponse):
        return len(reply.model_dump_json(include={"output"}).encode())
    return len(reply.choices[0].model_dump_json(include={"message"}).encode()) if reply.choices else 0


def reported_cost(reply: object) -> Decimal | None:
    """Return the cost in USD that OpenRouter and others report in the usage of a reply or a chunk; None if they report no cost.

    A call with the caller's own provider key is billed twice: OpenRouter's fee, which is `cost`, and the provider's price.
    Only chat completions are read: LiteLLM adds a cost that it computed to the usage of a Responses stream.
    """
    if not isinstance(reply, ModelResponse | ModelResponseStream):
        return None
    usage: Any = getattr(reply, "usage", None)
    cost = _parse_cost(getattr(usage, "cost", None))
    upstream = _upstream_cost(getattr(usage, "cost_details", None))
    own_key: object = getattr(usage, "is_byok", None)
    if own_key is None:  # OpenRouter's own bill is never less than the provider's price
        own_key = upstream is not None and upstream > (cost or 0)
    if own_key is not True or upstream is None:
        return None if own_key is True else cost
    return (cost or Decimal(0)) + upstream


def _upstream_cost(details: object) -> Decimal | None:
    """Return what the provider behind OpenRouter charged, which may be split into prompt and completion."""
    if not isinstance(details, Mapping):
        return None
    total = _parse_cost(details.get("upstream_inference_cost"))
    parts = [_parse_cost(details.get(f"upstream_inference_{part}_cost")) for part in ("prompt", "completions")]
    known = [part for part in parts if part is not None]
    return total if total is not None or len(known) < len(parts) else sum(known, Decimal(0))


def estimate_usage(prompt_bytes: int, completion_bytes: int, max_output_tokens: int | None = None) -> TokenUsage:
    """Estimate the tokens of a call that broke off before its usage arrived: four bytes of UTF-8 are one token, at least one."""
    completion = -(-completion_bytes // 4)
    most = completion if max_output_tokens is None else max_output_tokens
    return TokenUsage(prompt=max(1, -(-prompt_bytes // 4)), completion=min(completion, most))


class ExactSum:
    """A growing exact sum, split into parts of whole micro-USD that add up to the sum, rounded half up once."""

    def __init__(self) -> None:
        self._usd = Decimal(0)
        self._booked_micro_usd = 0

    def add(self, usd: Decimal) -> int:
        """Add a cost and return the micro-USD to book for it."""
        self._usd += usd
        total = int((self._usd * MICRO_PER_USD).to_integral_value(ROUND_HALF_UP))
        part, self._booked_micro_usd = total - self._booked_micro_usd, total
        return part


def _header_cost(reply: LLMReply) -> Decimal | None:
    return _parse_cost((_notes_on(reply).get("additional_headers") or {}).get(_COST_HEADER))


def _answered_name(reply: LLMReply) -> str:
    """Return the name of the model that has answered. In a streamed reply, LiteLLM puts the requested name in its place."""
    return str(_notes_on(reply).get("provider_response_model") or reply.model or "")


def _notes_on(reply: LLMReply) -> Mapping[str, Any]:
    """Return what LiteLLM has noted beside a reply."""
    return getattr(reply, "_hidden_params", None) or {}


def _parse_cost(value: object) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost <= MAX_USD else None


def _priced_names(names: Iterable[str]) -> Iterator[str]:
    """Yield the names for which LiteLLM's map has a price, as the map spells them. Zero is a price; a missing entry is not."""
    for name in names:
        provider, _, bare = name.partition("/")
        for known in (name, bare):
            entry = litellm.model_cost.get(known, {})
            # A name without provider counts only for the provider that the map names; a LiteLLM proxy serves all providers.
            is_same_provider = (
                known == name or provider == "litellm_proxy" or str(entry.get("litellm_provider")).startswith(provider)
            )
            if is_same_provider and entry.get("input_cost_per_token") is not None:
                yield known


def _provider(name: str) -> str | None:
    """Return the provider of a model in the map. LiteLLM derives it from the names on its lists, and raises for others."""
    owner: str | None = litellm.model_cost[name].get("litellm_provider")
    return owner


def _highest_price(entry: Mapping[str, Any], names: frozenset[str], prompt_tokens: int) -> Decimal:
    """Return the highest of some prices in an entry of the map, with the surcharges that apply to a prompt of this length."""
    prices = [0.0]
    for item, price in entry.items():
        name, _, threshold = item.partition("_above_")
        thousands = threshold.removesuffix("k_tokens")
        applies = not threshold or (thousands.isdigit() and prompt_tokens > int(thousands) * 1000)
        if name in names and applies and isinstance(price, int | float):
            prices.append(price)
    return _to_decimal(max(prices))


def _to_decimal(usd: float) -> Decimal:
    return Decimal(repr(float(usd)))
