"""The state of one LLM call: its hold, and the usage and cost of each attempt.

`metered_llm` changes it, and its docstring describes the life of a call. This module sends nothing.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from a2a_gateway.agents.llm.deltas import CallPiece, Piece, ReasoningPiece, TextPiece, pieces_of_chunk
from a2a_gateway.agents.llm.pricing import Prices, cost_in_stream, estimate_usage, reported_cost, reports_usage
from a2a_gateway.agents.llm.prompt_size import Prompt
from a2a_gateway.agents.llm.providers.stream_reading import StreamReading
from a2a_gateway.agents.llm.sanitizing import sanitize_chunk
from a2a_gateway.runs.budget import price_by
from a2a_gateway.runs.model import CallQuote, TokenUsage
from a2a_gateway.runs.ports import Hold
from a2a_gateway.runs.prompt_size import count_utf8_bytes
from delegate_tool.protocol.text import well_formed

USUAL_OUTPUT_TOKENS: Final = 500
"""The expected length of an answer that is not streamed: a tool call with its arguments, or some paragraphs of text."""


@dataclass(slots=True)
class Attempt:
    """One request to the provider, with its usage and cost so far.

    Attributes:
        answer_bytes: the length of an answer that came without its usage.
        reported: the cost that the provider reported in the stream, in USD.
        has_streamed: whether the answer came as a stream, which has ended.
        refused: whether the provider certainly did not work on the request.
        is_counted_here: whether LiteLLM counted `usage`, because the provider did not report it.
        reading: the reader of the answer, if it is streamed over HTTP.
    """

    streamed_bytes: int = 0
    answer_bytes: int = 0
    reported: Decimal | None = None
    usage: TokenUsage | None = None
    cost_usd: Decimal | None = None
    refused: bool = False
    has_streamed: bool = False
    is_counted_here: bool = False
    reading: StreamReading | None = None

    def receive(self, item: object) -> list[Piece]:
        """Sanitise and record one item of the stream; return its pieces."""
        self.reported = reported_cost(item) or self.reported
        pieces = list(pieces_of_chunk(item))
        if not all(map(_is_well_formed, pieces)):  # sanitising every item would double the time that it takes
            sanitize_chunk(item)
            pieces = list(pieces_of_chunk(item))
        self.streamed_bytes += sum(map(_length, pieces))
        return pieces

    def end(self, stream: object) -> None:
        """Record whether a stream that has ended reported its usage, and the cost that it reported."""
        self.has_streamed = True
        self.is_counted_here = not reports_usage(stream)
        self.reported = cost_in_stream(stream)


@dataclass(slots=True)
class LLMCall:
    """One LLM call, of one or more attempts.

    Attributes:
        bound_name: the request's field for the maximum of output tokens; None if the endpoint has no such field.
        hold: reserved before the request is built, and used by the first attempt. Each further attempt reserves its own.
        output_bound: the maximum of output tokens in the request as it was built; None if no budget bounds it.
        is_noted: whether the last message ends with a budget note, which the next call's messages will not contain.
        choice: replaces the request's `tool_choice` on the responses endpoint, where the SDK ignores that option.
        turns: the number of turns that the next booking counts: 0 for side calls and repeated attempts.
        is_streamed: whether the output arrives as a stream, so that its length is known while it is written.
        taken_call_ids: the ids of the tool calls in the request.
        usage, cost_micro_usd: the sums of all attempts; the cost is None if that of one attempt is unknown.
    """

    quote: CallQuote
    prompt: Prompt
    bound_name: str | None = None
    hold: Hold | None = None
    output_bound: int | None = None
    is_noted: bool = False
    choice: str | None = None
    turns: int = 0
    is_streamed: bool = False
    taken_call_ids: frozenset[str] = frozenset()
    attempt: Attempt = field(default_factory=Attempt)
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_micro_usd: int | None = 0

    def book(self, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        """Add the usage and the cost of one attempt."""
        self.usage += usage
        known = self.cost_micro_usd is not None and cost_micro_usd is not None
        self.cost_micro_usd = (self.cost_micro_usd or 0) + (cost_micro_usd or 0) if known else None

    def amendments(self, hold: Hold) -> dict[str, object]:
        """Return the options in which an attempt differs from the request that was built for the first attempt."""
        amended: dict[str, object] = {} if self.choice is None else {"tool_choice": self.choice}
        most, asked = hold.max_output_tokens, self.output_bound or self.quote.max_output_tokens
        if hold.budget_micro_usd is not None and most is not None and most < asked and self.bound_name:
            amended[self.bound_name] = most
        return amended

    def used_micro_usd(self) -> int:
        """Estimate what the current attempt has used so far: its prompt, and the part of its answer that has arrived.

        An answer that is not streamed counts with the usual length from the start: nothing of it arrives before its end, and the
        provider completes it even if this process ends.
        """
        used = self._estimate(self.attempt.streamed_bytes, self.quote.max_output_tokens)
        if not self.is_streamed:
            used = replace(used, completion=min(USUAL_OUTPUT_TOKENS, self.quote.max_output_tokens))
        return price_by(self.quote, used)

    def charge(self, hold: Hold, prices: Prices) -> tuple[TokenUsage, Decimal | None, bool]:
        """Return the usage of the last attempt, its cost, and whether both are certain.

        An attempt that broke off, or whose usage was not reported, is charged for its prompt and for the output that arrived:
        at least one token, and never more output than was reserved.
        """
        attempt = self.attempt
        if attempt.usage is None and attempt.refused and not attempt.streamed_bytes:
            return TokenUsage(), Decimal(0), True
        arrived = max(attempt.streamed_bytes, attempt.answer_bytes)
        usage = attempt.usage or self._estimate(arrived, hold.max_output_tokens)
        cost_usd = attempt.cost_usd
        if cost_usd is None and attempt.usage is None:
            cost_usd = prices.estimate_usd(usage)
        if cost_usd is None:
            return usage, prices.nominal_usd(usage), False
        is_reported = attempt.usage is not None and not attempt.is_counted_here
        return usage, cost_usd, is_reported or prices.are_free

    def _estimate(self, arrived_bytes: int, max_output_tokens: int | None) -> TokenUsage:
        usage = estimate_usage(self.prompt.utf8_bytes, arrived_bytes, max_output_tokens)
        return replace(usage, prompt=usage.prompt + self.prompt.image_tokens)


current_call: Final[ContextVar[LLMCall | None]] = ContextVar("current_llm_call", default=None)
"""The current call. A context variable, because the SDK's hooks have no parameter for it."""


def _is_well_formed(piece: Piece) -> bool:
    return all(text.isascii() or well_formed(text) == text for text in _texts(piece))


def _length(piece: Piece) -> int:
    return sum(map(count_utf8_bytes, _texts(piece)))


def _texts(piece: Piece) -> tuple[str, ...]:
    match piece:
        case TextPiece(text=text) | ReasoningPiece(text=text):
            return (text,)
        case CallPiece(name=name, arguments=arguments):
            return name, arguments
