"""Budgets: what an account still allows, and how much of it one LLM call gets. Pure arithmetic in whole micro-USD.

A run draws on several accounts: its own, those of all runs above it, its key's and its profile's. The terms of an account:

    cap         its limit
    spent       charged by settled calls
    held        set aside by calls under way; a settled call is charged, and releases the rest
    kept back   5 % of each run's own cap: for a last call, in which an agent whose budget is used up concludes
    presumed    of each hold: what the call is charged if the process dies before it is settled

The money of one call:

    reserve   held += reserved                   waits while only other holds are in the way (`BudgetHeld`)
    settle    held -= reserved, spent += cost
    crash     held -= reserved, spent += presumed; a run on a peer is corrected when the peer can be asked

The ledger books, in one transaction each, what is decided here.

The presumed amount is an estimate of what the call has used, at most what was set aside. The effect of too low an estimate is
bounded:

- A run of the dead process exceeds no budget. Its tree ends with the process, so nothing more is spent from its accounts, and
  what was really spent is at most what was spent and held before the crash.
- The accounts of keys and profiles continue. One crash lets such a budget be exceeded by at most what was held for its calls
  under way, less what is presumed of them.
- A run on a peer is presumed in full, because the peer may continue it.

If a peer fails instead, the runs above continue, and what was held for the peer is released for them. Until the peer reports a
cost, which may itself be an estimate, that money may be spent again. So each such failure lets every budget on which the run on
the peer draws be exceeded by at most what was held for that run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from a2a_gateway.errors import BudgetExceeded, BudgetHeld, ModelUnpriced
from a2a_gateway.runs.model import CallQuote, KeyRecord, RunRecord, SpendCaps, TokenUsage
from delegate_tool.protocol.money import MICRO_PER_USD, format_usd

KEPT_BACK_PERCENT: Final = 5
"""Share of a run's limit that only its own last call may use."""
ENOUGH_OUTPUT_TOKENS: Final = 1024
"""An ordinary call is worth making with this many output tokens, though the model could write more."""
LAST_OUTPUT_TOKENS: Final = 64
"""The last call is worth making with this many."""
SETTLED_WITHIN_S: Final = 600.0
"""How long after its run an open hold may still be settled (the database was unavailable); then it is charged in full."""
RECONCILED_WITHIN_S: Final = 30 * 86_400.0
"""How long a peer is asked for the cost of a run whose outcome was lost; then the presumed cost is final."""


@dataclass(frozen=True, slots=True)
class Account:
    """One budget that a run draws on.

    Attributes:
        owner: for error messages.
        own: whether it is that of the run itself, which may use what is kept back of it for its last call.
    """

    owner: str
    cap: int
    spent: int
    held: int = 0
    kept_back: int = 0
    own: bool = False

    @property
    def available(self) -> int:
        """What is neither spent nor held. A call may cost more than was set aside for it, so the sum can exceed the cap."""
        return max(0, self.cap - self.spent - self.held)

    @property
    def unspent(self) -> int:
        """What runs below this account may be promised: calls under way may yet release what they hold."""
        return max(0, self.cap - self.spent - self.kept_back)

    def room(self, *, last: bool = False, idle: bool = False) -> int:
        """Return what one more call may use: the run's `last` one, or if no other call were under way (`idle`)."""
        kept_back = 0 if last and self.own else self.kept_back
        return self.cap - self.spent - kept_back - (0 if idle else self.held)

    def refusal(self, least: int = 0) -> str:
        """Describe why nothing more fits; `least` is what the shortest call might cost, if something is left."""
        held = f" and {format_usd(self.held)} set aside for calls under way" if self.held else ""
        is_spent = not least or self.spent >= self.cap
        why = "is used up" if is_spent else f"has too little left for one more LLM call, which may cost {format_usd(least)} USD"
        return (
            f"The budget of {self.owner} {why}: {format_usd(self.spent)} of {format_usd(self.cap)} USD are spent{held}. "
            "Finish with what there is, or ask for a larger budget."
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a key, or a profile, has used up to now; days and months are those of UTC."""

    total_micro_usd: int = 0
    day_micro_usd: int = 0
    month_micro_usd: int = 0
    held_micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class Allotment:
    """What one call gets; see `ports.Hold` for the meaning of the fields."""

    reserved_micro_usd: int
    max_output_tokens: int
    last: bool = False
    budget_micro_usd: int | None = None
    left_micro_usd: int | None = None
    presumed_micro_usd: int = 0


def accounts_of_path(path: Sequence[RunRecord], *, below: bool = False) -> list[Account]:
    """List the budgets of a run and of those above it.

    Args:
        path: from the root to the run itself.
        below: the accounts are those of a run below the last one of the path.
    """
    return [
        Account(
            f"run {run.id}",
            run.limits.budget_micro_usd,
            run.cost_tree_micro_usd,
            run.reserved_micro_usd,
            kept_back=run.limits.budget_micro_usd * KEPT_BACK_PERCENT // 100,
            own=run is path[-1] and not below,
        )
        for run in path
        if run.limits.budget_micro_usd is not None
    ]


def accounts_of_caps(owner: str, caps: SpendCaps, spent: Spent) -> list[Account]:
    """List the budgets of a key or a profile for all its runs together."""
    periods = (
        (owner, caps.total_micro_usd, spent.total_micro_usd),
        (f"{owner} for this day (UTC)", caps.day_micro_usd, spent.day_micro_usd),
        (f"{owner} for this month (UTC)", caps.month_micro_usd, spent.month_micro_usd),
    )
    return [Account(name, cap, used, spent.held_micro_usd) for name, cap, used in periods if cap is not None]


def key_owner(key: KeyRecord) -> str:
    """Name a key for an error message."""
    return f"key {key.name!r}"


def budget_left(accounts: Iterable[Account]) -> int | None:
    """Return what a run may still set aside; without a budget, None."""
    return min((account.available for account in accounts), default=None)


def unspent(accounts: Iterable[Account]) -> int | None:
    """Return what a new run may be promised; without a budget, None."""
    return min((account.unspent for account in accounts), default=None)


def find_exhausted(accounts: Iterable[Account]) -> Account | None:
    """Return the first account of which everything is spent."""
    return next((account for account in accounts if account.spent >= account.cap), None)


def allot(quote: CallQuote, accounts: Sequence[Account], *, may_be_last: bool) -> Allotment:
    """Decide what one LLM call gets: all that it asks for, less output, or the run's last call.

    Args:
        may_be_last: the run has not had its last call yet.

    Raises:
        ModelUnpriced: there is a budget, and no price is known.
        BudgetHeld: it would fit if the calls under way cost nothing.
        BudgetExceeded: not even a short last call fits.
    """
    price = _Price.of(quote)
    if not accounts:
        reserved = 0 if price is None else price.cost(quote.max_output_tokens)
        return Allotment(reserved, quote.max_output_tokens, presumed_micro_usd=_presume(quote, reserved))
    if price is None:
        raise ModelUnpriced(
            "A budget is in force, and no price is known for this agent's model, so nothing could hold the run to it. Give its "
            "profile prices (input_usd_per_mtok, output_usd_per_mtok), let tokens of unknown price count at one of your own "
            "(A2A_UNPRICED_USD_PER_MTOK), or allow any cost (A2A_BUDGET_USD=none)."
        )
    tightest = min(accounts, key=lambda account: (account.available / account.cap if account.cap else 0, account.available))
    for last, least in ((False, ENOUGH_OUTPUT_TOKENS), (True, LAST_OUTPUT_TOKENS))[: 2 if may_be_last else 1]:
        least = min(least, quote.max_output_tokens)
        output_tokens = price.output_for(min(account.room(last=last) for account in accounts), quote.max_output_tokens)
        if output_tokens >= least:
            reserved = price.cost(output_tokens)
            return Allotment(reserved, output_tokens, last, tightest.cap, tightest.available, _presume(quote, reserved))
        if price.output_for(min(account.room(last=last, idle=True) for account in accounts), least) >= least:
            held = min(accounts, key=lambda account: account.room(last=last))
            raise BudgetHeld(held.refusal(price.cost(least)))
    empty = min(accounts, key=lambda account: account.room(last=may_be_last))
    raise BudgetExceeded(empty.refusal(price.cost(least)), details={"budget_remaining_usd": format_usd(empty.available)})


def allot_escrow(accounts: Sequence[Account]) -> Allotment:
    """Decide what is set aside for a run on a peer: all that it may still spend, with what is kept back for a last call.

    The peer keeps back a part of it itself.

    Raises:
        BudgetHeld: there would be something if the calls under way cost nothing.
        BudgetExceeded: nothing is left.
    """
    if not accounts:
        return Allotment(0, 0)
    tightest = min(accounts, key=lambda account: account.room(last=True))
    room = tightest.room(last=True)
    if room <= 0:
        waits = all(account.room(last=True, idle=True) > 0 for account in accounts)
        refusal = BudgetHeld if waits else BudgetExceeded
        raise refusal(tightest.refusal(), details={"budget_remaining_usd": format_usd(tightest.available)})
    return Allotment(room, 0, budget_micro_usd=room, left_micro_usd=room, presumed_micro_usd=room)


def price_by(quote: CallQuote, usage: TokenUsage) -> int:
    """Price tokens as a quote does, at the highest rate that may apply, in micro-USD rounded up; 0 if no price is known."""
    if quote.usd_per_prompt_token is None or quote.usd_per_output_token is None:
        return 0
    usd = usage.prompt * quote.usd_per_prompt_token + usage.completion * quote.usd_per_output_token
    return int((usd * MICRO_PER_USD).to_integral_value(ROUND_CEILING))


def share(accounts: Iterable[Account], shares: int) -> int | None:
    """Return an equal share of what is neither spent, held nor kept back; without a budget, None."""
    room = min((account.room() for account in accounts), default=None)
    return None if room is None else max(0, room) // shares


def _presume(quote: CallQuote, reserved_micro_usd: int) -> int:
    return reserved_micro_usd if quote.sent_micro_usd is None else min(quote.sent_micro_usd, reserved_micro_usd)


@dataclass(frozen=True, slots=True)
class _Price:
    """The price of a call, by its output."""

    prompt_micro_usd: Decimal
    output_micro_usd: Decimal

    @classmethod
    def of(cls, quote: CallQuote) -> "_Price | None":
        if quote.usd_per_prompt_token is None or quote.usd_per_output_token is None:
            return None
        return cls(quote.prompt_tokens * quote.usd_per_prompt_token * MICRO_PER_USD, quote.usd_per_output_token * MICRO_PER_USD)

    def cost(self, output_tokens: int) -> int:
        return int((self.prompt_micro_usd + output_tokens * self.output_micro_usd).to_integral_value(ROUND_CEILING))

    def output_for(self, micro_usd: int, at_most: int) -> int:
        """Return how many output tokens a sum pays for after the prompt; -1 if not even the prompt."""
        rest = micro_usd - self.prompt_micro_usd
        if rest < 0:
            return -1
        if not self.output_micro_usd:
            return at_most
        return min(at_most, int((rest / self.output_micro_usd).to_integral_value(ROUND_FLOOR)))
