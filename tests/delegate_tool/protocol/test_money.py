"""Money stays exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate_tool.protocol.money import format_usd, micro_usd_from_float, parse_usd


@given(st.integers(0, 10**15))
def test_an_amount_survives_its_text(micro_usd: int) -> None:
    assert parse_usd(format_usd(micro_usd)) == micro_usd


@given(st.integers(0, 10**12))
def test_an_amount_survives_a_json_number(micro_usd: int) -> None:
    assert micro_usd_from_float(micro_usd / 1_000_000) == micro_usd


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    try:
        amount = parse_usd(text)
    except ValueError:
        return
    assert parse_usd(format_usd(amount)) == amount


@pytest.mark.parametrize(("micro_usd", "text"), [(0, "0.000000"), (1, "0.000001"), (-1_500_000, "-1.500000")])
def test_money_is_written_with_six_places(micro_usd: int, text: str) -> None:
    assert format_usd(micro_usd) == text
