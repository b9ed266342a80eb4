"""Budgets: what one LLM call gets of what is left, and what is kept back."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import BudgetExceeded, BudgetHeld, GatewayError
from a2a_gateway.runs.budget import Account, Allotment, Spent, accounts_of_caps, allot, allot_escrow
from a2a_gateway.runs.model import CallQuote, SpendCaps

MICRO = Decimal("0.000001")


def quote(prompt_tokens: int, max_output_tokens: int) -> CallQuote:
    """Quote a call: a prompt token costs one micro-USD, an output token two."""
    return CallQuote(prompt_tokens, max_output_tokens, MICRO, 2 * MICRO)


def run(cap: int, spent: int = 0, held: int = 0) -> Account:
    return Account("run r", cap, spent, held, kept_back=cap * 5 // 100, own=True)


def above(cap: int, spent: int = 0, held: int = 0) -> Account:
    return Account("run above", cap, spent, held, kept_back=cap * 5 // 100)


def test_a_call_that_fits_gets_all_that_it_asks_for() -> None:
    assert allot(quote(1_000, 4_000), [run(100_000, spent=10_000)], may_be_last=True) == Allotment(
        9_000, 4_000, last=False, budget_micro_usd=100_000, left_micro_usd=90_000, presumed_micro_usd=9_000
    )


def test_without_a_budget_a_call_of_known_price_is_still_held() -> None:
    assert allot(quote(10, 20), [], may_be_last=True) == Allotment(50, 20, presumed_micro_usd=50)
    assert allot(CallQuote(10, 20), [], may_be_last=True) == Allotment(0, 20)


def test_a_crash_charges_what_a_call_has_probably_used_up_to_its_hold() -> None:
    roomy, tight = [run(100_000)], [run(100_000, spent=94_000)]
    assert allot(replace(quote(1_000, 4_000), sent_micro_usd=700), roomy, may_be_last=True).presumed_micro_usd == 700
    assert allot(replace(quote(1_000, 4_000), sent_micro_usd=700), [], may_be_last=True).presumed_micro_usd == 700
    assert allot(replace(quote(10, 20), sent_micro_usd=700), [], may_be_last=True).presumed_micro_usd == 50
    short = allot(replace(quote(1_000, 4_000), sent_micro_usd=70_000), tight, may_be_last=True)
    assert short.presumed_micro_usd == short.reserved_micro_usd > 0
    assert allot(quote(1_000, 4_000), roomy, may_be_last=True).presumed_micro_usd == 9_000  # of which nothing is known


def test_a_budget_without_a_price_is_refused_with_what_to_do() -> None:
    with pytest.raises(GatewayError) as refusal:
        allot(CallQuote(10, 20), [run(100)], may_be_last=True)
    assert refusal.value.code == "model_unpriced"
    for setting in ("input_usd_per_mtok", "A2A_UNPRICED_USD_PER_MTOK", "A2A_BUDGET_USD=none"):
        assert setting in refusal.value.message


def test_a_call_may_ask_for_less_output_where_all_of_it_does_not_fit() -> None:
    allotment = allot(quote(1_000, 16_000), [run(10_000)], may_be_last=True)
    assert (allotment.max_output_tokens, allotment.reserved_micro_usd, allotment.last) == (4_250, 9_500, False)


def test_too_little_output_to_be_worth_a_turn_makes_it_the_last() -> None:
    allotment = allot(quote(1_000, 16_000), [run(10_000, spent=7_000)], may_be_last=True)
    assert (allotment.max_output_tokens, allotment.reserved_micro_usd, allotment.last) == (1_000, 3_000, True)
    with pytest.raises(BudgetExceeded) as refusal:
        allot(quote(1_000, 16_000), [run(10_000, spent=7_000)], may_be_last=False)
    assert refusal.value.details == {"budget_remaining_usd": "0.003000"}
    with pytest.raises(BudgetExceeded) as refusal:
        allot(quote(1_000, 16_000), [run(10_000, spent=10_000)], may_be_last=True)
    assert refusal.value.details == {"budget_remaining_usd": "0.000000"}


def test_the_last_call_uses_what_its_own_run_keeps_back_and_not_what_others_do() -> None:
    assert allot(quote(0, 100), [above(100_000), run(10_000, spent=9_700)], may_be_last=True).last
    with pytest.raises(BudgetExceeded):
        allot(quote(0, 100), [above(100_000, spent=95_000), run(10_000)], may_be_last=True)


def test_what_only_calls_under_way_stand_in_the_way_of_is_to_be_waited_for() -> None:
    with pytest.raises(BudgetHeld):
        allot(quote(1_000, 2_000), [above(10_000, held=9_000), run(9_500)], may_be_last=True)


def test_a_run_on_a_peer_gets_all_that_is_left_and_what_it_keeps_back_itself() -> None:
    assert allot_escrow([above(100_000, held=80_000), run(50_000)]) == Allotment(
        15_000, 0, budget_micro_usd=15_000, left_micro_usd=15_000, presumed_micro_usd=15_000
    )
    assert allot_escrow([above(100_000), run(50_000)]).reserved_micro_usd == 50_000
    assert allot_escrow([]) == Allotment(0, 0)


def test_a_run_on_a_peer_waits_for_held_money_and_not_for_spent_money() -> None:
    with pytest.raises(BudgetHeld):
        allot_escrow([above(100_000, held=95_000), run(50_000)])
    with pytest.raises(BudgetExceeded) as refusal:
        allot_escrow([above(100_000, spent=95_000), run(50_000)])
    assert not isinstance(refusal.value, BudgetHeld)


def test_caps_of_a_day_a_month_and_all_time_bind_together() -> None:
    caps, spent = SpendCaps(1_000, 100, 500), Spent(900, 60, 200, held_micro_usd=10)
    accounts = accounts_of_caps("key 'k'", caps, spent)
    assert [(account.owner, account.available) for account in accounts] == [
        ("key 'k'", 90),
        ("key 'k' for this day (UTC)", 30),
        ("key 'k' for this month (UTC)", 290),
    ]
    assert allot(quote(30, 0), accounts, may_be_last=False).reserved_micro_usd == 30
    with pytest.raises(BudgetExceeded) as refusal:
        allot(quote(41, 0), accounts, may_be_last=False)
    assert refusal.value.details == {"budget_remaining_usd": "0.000030"}  # of this day


accounts = st.lists(st.builds(run, *[st.integers(0, 10**6)] * 3) | st.builds(above, *[st.integers(0, 10**6)] * 3), min_size=1)


@given(st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 100), st.integers(0, 100), accounts, st.booleans())
def test_whatever_is_allotted_fits_every_account(
    prompt: int, output: int, prompt_nano: int, output_nano: int, held_by: list[Account], may_be_last: bool
) -> None:
    asked = CallQuote(prompt, output, prompt_nano * MICRO / 1000, output_nano * MICRO / 1000)
    try:
        allotment = allot(asked, held_by, may_be_last=may_be_last)
    except BudgetExceeded:
        return
    cost = (prompt * prompt_nano + allotment.max_output_tokens * output_nano) / Decimal(1000)
    assert cost <= allotment.reserved_micro_usd < cost + 1
    assert 0 <= allotment.max_output_tokens <= output
    assert may_be_last or not allotment.last
    for account in held_by:
        kept_back = 0 if allotment.last and account.own else account.kept_back
        assert account.spent + account.held + kept_back + allotment.reserved_micro_usd <= account.cap
