"""What a call to a plain endpoint is quoted, and what it is charged."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.pricing import Terms, TokenPrice, charge_plain, terms_of
from a2a_gateway.runs.model import RunId, TokenUsage
from a2a_gateway.runs.ports import Charge, Hold
from a2a_gateway.runs.prompt_size import PromptSize
from delegate_tool.protocol.result import DelegationResult, DelegationStatus, Tokens

PROMPT = PromptSize(utf8_bytes=400, messages=1)
PRICE = TokenPrice(Decimal("0.000001"), Decimal("0.000002"))
FREE = Hold("h", RunId("r"))
HELD = Hold("h", RunId("r"), reserved_micro_usd=500, max_output_tokens=200, budget_micro_usd=5_000, left_micro_usd=1_000)


def peer(**settings: Any) -> PeerSettings:
    known = {"id": "p", "base_url": "http://p/v1", "api_key": SecretStr("sk-p"), "opaque": True}
    return PeerSettings.model_validate({**known, **settings})


def terms(settings: PeerSettings, *, listed: TokenPrice | None = None, unpriced: str | None = None) -> Terms:
    stand_in = None if unpriced is None else Decimal(unpriced)
    return terms_of(settings, "m", PROMPT, listed=listed, unpriced=stand_in, asked_tokens=None)


OWN = {"input_usd_per_mtok": 3, "output_usd_per_mtok": "4.5"}
OF_M = {"prices": {"m": {"input_usd_per_mtok": 5, "output_usd_per_mtok": 6}}}


@pytest.mark.parametrize(
    ("known", "price"),
    [
        (terms(peer(**OWN)), TokenPrice(Decimal("0.000003"), Decimal("0.0000045"))),
        (terms(peer(**OWN, **OF_M), listed=PRICE, unpriced="1"), TokenPrice(Decimal("0.000005"), Decimal("0.000006"))),
        (terms(peer(reports_cost=True), listed=PRICE, unpriced="1"), PRICE),
        (terms(peer(), listed=PRICE), None),
        (terms(peer(), listed=PRICE, unpriced="0.1"), TokenPrice(Decimal("0.1"), Decimal("0.1"), is_nominal=True)),
    ],
    ids=["the peer's", "the model's", "what it lists", "not believed", "a stand-in"],
)
def test_the_price_is_the_settings_or_that_of_a_trusted_list_or_a_stand_in(known: Terms, price: TokenPrice | None) -> None:
    assert known.price == price


def test_a_call_is_quoted_its_prompt_and_its_longest_answer() -> None:
    quote = terms(peer(**OWN, max_output_tokens=100)).quote()
    assert (quote.prompt_tokens, quote.max_output_tokens) == (PROMPT.most_tokens(), 100)
    assert (quote.usd_per_prompt_token, quote.usd_per_output_token) == (Decimal("0.000003"), Decimal("0.0000045"))
    assert terms(peer()).quote().usd_per_prompt_token is None
    assert (terms(peer(reports_cost=True)).must_escrow, terms(peer(reports_cost=True, **OWN)).must_escrow) == (True, False)


def test_the_endpoint_gets_a_bound_of_output_only_where_a_budget_binds_it() -> None:
    priced, free = Terms(PRICE, False, PROMPT, 1000), Terms(TokenPrice(Decimal(1), Decimal(0)), False, PROMPT, 1000)
    assert [priced.output_bound(HELD), priced.output_bound(FREE), free.output_bound(HELD)] == [200, None, None]
    assert (priced.is_shortened(HELD), Terms(PRICE, False, PROMPT, 200).is_shortened(HELD)) == (True, False)


def result_with(tokens: Tokens | None = None, **known: Any) -> DelegationResult:
    used = tokens or Tokens()
    return DelegationResult(
        **{
            "status": DelegationStatus.FINISHED,
            "tokens": used,
            "tree_tokens": used,
            "cost_complete": "cost_micro_usd" in known,
            **known,
        }
    )


def failure(code: str, http_status: int | None = None) -> DelegationResult:
    return DelegationResult(DelegationStatus.FAILED, error_code=code, http_status=http_status)


def charge(result: DelegationResult, hold: Hold, known: Terms, *, has_begun: bool = True, answer_bytes: int = 80) -> Charge:
    return charge_plain(result, hold, known, has_begun=has_begun, answer_bytes=answer_bytes)


PRICED, REPORTING, NOMINAL = (
    Terms(PRICE, False, PROMPT, 1000),
    Terms(None, True, PROMPT, 1000),
    Terms(TokenPrice(Decimal("0.00001"), Decimal("0.00001"), is_nominal=True), False, PROMPT, 1000),
)
UNKNOWN = Terms(None, False, PROMPT, 1000)
USED = Tokens(100, 50, 80, 20)
USAGE, ESTIMATE = TokenUsage(100, 50, 80, 20), TokenUsage(100, 20)


@pytest.mark.parametrize(
    ("result", "hold", "known", "charged"),
    [
        (result_with(USED), HELD, PRICED, Charge(USAGE, 200)),
        (result_with(USED, cost_micro_usd=70), HELD, PRICED, Charge(USAGE, 70)),
        (result_with(USED, cost_micro_usd=0), HELD, PRICED, Charge(USAGE, 200)),
        (result_with(USED, cost_micro_usd=1_001), HELD, PRICED, Charge(USAGE, 1_000, complete=False)),
        (result_with(Tokens(1_000, 500)), HELD, PRICED, Charge(TokenUsage(1_000, 500), 1_000, complete=False)),
        (result_with(), HELD, PRICED, Charge(ESTIMATE, 140, complete=False)),
        (result_with(USED, status=DelegationStatus.FAILED), HELD, PRICED, Charge(USAGE, 200, complete=False)),
        (result_with(USED), FREE, UNKNOWN, Charge(USAGE, None, complete=False)),
        (result_with(USED, cost_micro_usd=70), FREE, UNKNOWN, Charge(USAGE, 70)),
        (result_with(USED), HELD, NOMINAL, Charge(USAGE, 1_000, complete=False)),
        (result_with(USED, cost_micro_usd=0), HELD, REPORTING, Charge(USAGE, 0)),
        (result_with(USED), HELD, REPORTING, Charge(USAGE, 500, complete=False)),
        (result_with(USED), FREE, REPORTING, Charge(USAGE, None, complete=False)),
        (failure("stream_broken"), HELD, REPORTING, Charge(ESTIMATE, 500, complete=False)),
    ],
)
def test_a_call_is_charged_what_is_known_of_it(result: DelegationResult, hold: Hold, known: Terms, charged: Charge) -> None:
    assert charge(result, hold, known) == charged


@pytest.mark.parametrize("refused", [failure("unreachable"), failure("http_400", 400), failure("overloaded", 503)])
def test_what_the_endpoint_turned_down_costs_nothing(refused: DelegationResult) -> None:
    assert charge(refused, HELD, PRICED, has_begun=False) == Charge(turns=0)


@pytest.mark.parametrize("broken", [failure("http_504", 504), failure("timeout"), failure("stream_broken")])
def test_what_may_have_been_worked_on_costs_at_least_its_prompt(broken: DelegationResult) -> None:
    expected = Charge(TokenUsage(100, 0), 100, complete=False)
    assert charge(broken, HELD, PRICED, has_begun=False, answer_bytes=0) == expected


def test_many_small_calls_do_not_cost_nothing_together() -> None:
    assert TokenPrice(Decimal("1e-12"), Decimal(0)).micro_usd(TokenUsage(1, 0)) == 1
    assert TokenPrice(Decimal(0), Decimal(0)).micro_usd(TokenUsage(1, 1)) == 0
