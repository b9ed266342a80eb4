"""One LLM call of a run: what may be spent on it, what each attempt asks for, and what it used in the end.

Plain state of one call, which `llm` leads; it sends nothing.
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
"""A fair expectation of an answer whose length cannot be seen: a tool call with its arguments, or some paragraphs of text."""


@dataclass(slots=True)
class Attempt:
    """One request to the provider: what is known of it so far.

    Attributes:
        answer_bytes: of an answer that came without its usage.
        is_counted_here: `usage` is LiteLLM's own count.
        reading: of its answer, if that is streamed over HTTP.
    """

    streamed_bytes: int = 0
    answer_bytes: int = 0
    reported: Decimal | None = None
    usage: TokenUsage | None = None
    cost_usd: Decimal | None = None
    refused: bool = False
    is_counted_here: bool = False
    reading: StreamReading | None = None

    def receive(self, item: object) -> list[Piece]:
        """Mend an item of the stream and take note of it; returns its pieces."""
        self.reported = reported_cost(item) or self.reported
        pieces = list(pieces_of_chunk(item))
        if not all(map(_is_well_formed, pieces)):  # to look into each item a second time would take as long as all the rest
            sanitize_chunk(item)
            pieces = list(pieces_of_chunk(item))
        self.streamed_bytes += sum(map(_length, pieces))
        return pieces

    def end(self, stream: object) -> None:
        """Take note of what a stream that has ended reports of its usage and cost."""
        self.is_counted_here = not reports_usage(stream)
        self.reported = cost_in_stream(stream)


@dataclass(slots=True)
class LLMCall:
    """One LLM call: one attempt, or several.

    Attributes:
        bound_name: of the request's field for the most output tokens; None where the endpoint knows none.
        hold: got before the request was built, for the first attempt; each further one gets its own.
        output_bound: of the request as it was built; None where no budget binds it.
        is_noted: whether the last message has a note that the next call's will not have.
        choice: replaces the request's `tool_choice`, where the SDK takes none.
        turns: that the next booking counts; a side call, and a repeated attempt, is none.
        is_streamed: whether its output can be seen arriving.
        taken_call_ids: of the tool calls in the request.
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
        """Add what an attempt used."""
        self.usage += usage
        known = self.cost_micro_usd is not None and cost_micro_usd is not None
        self.cost_micro_usd = (self.cost_micro_usd or 0) + (cost_micro_usd or 0) if known else None

    def amendments(self, hold: Hold) -> dict[str, object]:
        """What an attempt asks for otherwise than the request that was built for the first one."""
        amended: dict[str, object] = {} if self.choice is None else {"tool_choice": self.choice}
        most, asked = hold.max_output_tokens, self.output_bound or self.quote.max_output_tokens
        if hold.budget_micro_usd is not None and most is not None and most < asked and self.bound_name:
            amended[self.bound_name] = most
        return amended

    def used_micro_usd(self) -> int:
        """Estimate what the attempt under way has used so far: its prompt, and what has arrived of its answer.

        Of an answer that comes whole nothing is seen before its end, and the provider writes it whatever becomes of this process:
        it counts as one of the usual length.
        """
        used = self._estimate(self.attempt.streamed_bytes, self.quote.max_output_tokens)
        if not self.is_streamed:
            used = replace(used, completion=min(USUAL_OUTPUT_TOKENS, self.quote.max_output_tokens))
        return price_by(self.quote, used)

    def charge(self, hold: Hold, prices: Prices) -> tuple[TokenUsage, Decimal | None, bool]:
        """What the last attempt used, what it cost, and whether that is certain.

        One that broke off, or of which no usage was told, is charged for what it was sent and what has arrived: never nothing,
        never more than was set aside.
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
        return usage, cost_usd, attempt.usage is not None and not attempt.is_counted_here

    def _estimate(self, arrived_bytes: int, max_output_tokens: int | None) -> TokenUsage:
        usage = estimate_usage(self.prompt.utf8_bytes, arrived_bytes, max_output_tokens)
        return replace(usage, prompt=usage.prompt + self.prompt.image_tokens)


current_call: Final[ContextVar[LLMCall | None]] = ContextVar("current_llm_call", default=None)
"""The call under way: the SDK's hooks have no parameter for it."""


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
