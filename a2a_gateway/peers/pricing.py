"""What to reserve for a call to a plain endpoint, and what to charge for it afterwards. Pure.

Another gateway reports the cost of its runs and keeps to the reserved amount. A plain endpoint may do neither, so its calls are
bounded by a budget as calls to an LLM are:

| known about the model | reserved | charged |
|---|---|---|
| its price | prompt and longest answer at that price | the reported cost, else the tokens at that price |
| that the endpoint reports its cost | all that the run may still spend | the reported cost, else all that was reserved |
| a nominal price for any model | prompt and longest answer at that price | the reported cost, else the tokens at that price |
| nothing | refused if there is a budget | the reported cost, else unknown |

Tokens that are not reported are estimated from the text that was sent and received.
"""

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Final

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.outcomes import usage_of
from a2a_gateway.runs.model import CallQuote, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from a2a_gateway.runs.prompt_size import PromptSize
from delegate_tool.protocol.codes import UNREACHABLE
from delegate_tool.protocol.money import MICRO_PER_USD
from delegate_tool.protocol.result import DelegationResult, DelegationStatus

_TOKENS_PER_MTOK: Final = 1_000_000
_BYTES_PER_TOKEN: Final = 4
_MOST_BYTES_PER_TOKEN: Final = 32
"""16 bytes of text, because no answer has longer tokens on average, and 16 bytes that each piece counts beside its text."""
_STATUSES_AFTER_WORK: Final = frozenset({408, 504, 524})
"""Statuses of a server that had begun the work and waited for it. With any other status the endpoint refused the request."""


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What a token costs. `is_nominal` marks a price that is assumed because the real one is unknown."""

    usd_per_prompt_token: Decimal
    usd_per_output_token: Decimal
    is_nominal: bool = False

    def micro_usd(self, usage: TokenUsage) -> int:
        """Return the price of tokens, rounded up: many small calls together must not cost nothing."""
        usd = usage.prompt * self.usd_per_prompt_token + usage.completion * self.usd_per_output_token
        return int((usd * MICRO_PER_USD).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Terms:
    """How one call to a plain endpoint is paid."""

    price: TokenPrice | None
    reports_cost: bool
    prompt: PromptSize
    max_output_tokens: int

    @property
    def must_escrow(self) -> bool:
        """Whether all that the run may spend is reserved, because only the endpoint knows the price."""
        return self.price is None and self.reports_cost

    def quote(self) -> CallQuote:
        """Quote the most that the call may cost."""
        quote = CallQuote(self.prompt.most_tokens(), self.max_output_tokens)
        if self.price is None:
            return quote
        price = self.price
        return replace(
            quote,
            usd_per_prompt_token=price.usd_per_prompt_token,
            usd_per_output_token=price.usd_per_output_token,
            sent_micro_usd=self.used_micro_usd(answer_bytes=0),
        )

    def used_micro_usd(self, answer_bytes: int) -> int:
        """Estimate what the call has cost when `answer_bytes` of its answer have arrived."""
        prompt = max(1, -(-self.prompt.utf8_bytes // _BYTES_PER_TOKEN))
        usage = TokenUsage(prompt, -(-answer_bytes // _BYTES_PER_TOKEN))
        return 0 if self.price is None else self.price.micro_usd(usage)

    def output_bound(self, hold: Hold) -> int | None:
        """Return the most output tokens to ask the endpoint for; None if no budget bounds them."""
        is_bound = hold.budget_micro_usd is not None and self.price is not None and self.price.usd_per_output_token > 0
        return hold.max_output_tokens if is_bound else None

    def is_shortened(self, hold: Hold) -> bool:
        """Return whether the budget allows only a shorter answer than was asked for."""
        bound = self.output_bound(hold)
        return bound is not None and bound < self.max_output_tokens

    def max_answer_bytes(self, hold: Hold, most: int) -> int:
        """Return the bound of the answer in bytes, for an endpoint that ignores its bound of tokens. `most` bounds any answer."""
        bound = self.output_bound(hold)
        return most if bound is None else min(most, bound * _MOST_BYTES_PER_TOKEN)


def terms_of(
    peer: PeerSettings,
    model: str,
    prompt: PromptSize,
    *,
    listed: TokenPrice | None,
    unpriced: Decimal | None,
    asked_tokens: int | None,
) -> Terms:
    """Return how a call to a plain endpoint is paid.

    Args:
        listed: the model's price in the endpoint's list; used only if the settings trust the costs that it reports.
        unpriced: the nominal price of a token of unknown price, in USD.
        asked_tokens: the longest answer that the request asks for.
    """
    price = None
    if (given := peer.price_of(model)) is not None:
        price = TokenPrice(given.input_usd_per_mtok / _TOKENS_PER_MTOK, given.output_usd_per_mtok / _TOKENS_PER_MTOK)
    elif peer.reports_cost and listed is not None:
        price = listed
    elif unpriced is not None:
        price = TokenPrice(unpriced, unpriced, is_nominal=True)
    return Terms(price, peer.reports_cost, prompt, asked_tokens or peer.max_output_tokens)


def charge_plain(result: DelegationResult, hold: Hold, terms: Terms, *, has_begun: bool, answer_bytes: int) -> Charge:
    """Return the charge of a call to a plain endpoint: never more than the budget had left, whatever the endpoint reports.

    Args:
        has_begun: whether an answer had begun, or may have begun, so that something was executed.
    """
    if not has_begun and _was_refused(result):
        return Charge(turns=0)
    usage = usage_of(result)
    has_usage = bool(usage.prompt or usage.completion)
    if not has_usage:
        usage = _estimate(terms, hold, answer_bytes)
    cost, complete = result.cost_micro_usd, result.cost_complete
    if cost is None or (cost == 0 and not terms.reports_cost):
        # A reported 0 means that a proxy does not know the price, unless the settings trust the endpoint's numbers.
        has_ended = result.status in (DelegationStatus.FINISHED, DelegationStatus.PARTIAL)
        is_known = terms.price is not None and not terms.price.is_nominal
        cost, complete = _price(usage, hold, terms), has_usage and has_ended and is_known
    paid = cost if cost is None or hold.left_micro_usd is None else min(cost, hold.left_micro_usd)
    return Charge(usage, paid, complete and paid is not None and paid == cost)


def _price(usage: TokenUsage, hold: Hold, terms: Terms) -> int | None:
    if terms.price is not None:
        return terms.price.micro_usd(usage)
    return hold.reserved_micro_usd if terms.reports_cost and hold.budget_micro_usd is not None else None


def _estimate(terms: Terms, hold: Hold, answer_bytes: int) -> TokenUsage:
    output_tokens = -(-answer_bytes // _BYTES_PER_TOKEN)
    bound = terms.output_bound(hold)
    return TokenUsage(
        prompt=max(1, -(-terms.prompt.utf8_bytes // _BYTES_PER_TOKEN)),
        completion=output_tokens if bound is None else min(output_tokens, bound),
    )


def _was_refused(result: DelegationResult) -> bool:
    if result.status is DelegationStatus.REFUSED or result.error_code == UNREACHABLE:
        return True
    return result.http_status is not None and result.http_status not in _STATUSES_AFTER_WORK
