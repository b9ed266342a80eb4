"""Exact money: integer micro-USD inside, decimal strings with six places outside.

Standard library only; both the delegation tool and the gateway use it, so that a cost never becomes a float on its way.
"""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

MICRO_PER_USD = 1_000_000
MAX_USD = Decimal(10**9)
"""The largest amount that is accepted; a larger one cannot be true."""


def parse_usd(text: str) -> int:
    """Turn a decimal amount of USD into micro-USD.

    Accepts at most six decimal places and amounts from 0 up to 10**9; no sign, exponent, or special value.

    Raises:
        ValueError: the text is not such an amount.
    """
    stripped = text.strip()
    if not stripped or not stripped.isascii() or not set(stripped) <= set("0123456789."):
        raise ValueError(f"not a decimal amount of USD such as 0.50: {text[:40]!r}")
    try:
        amount = Decimal(stripped)
    except InvalidOperation:
        raise ValueError(f"not a decimal amount of USD such as 0.50: {text[:40]!r}") from None
    if amount > MAX_USD:
        raise ValueError(f"more than {MAX_USD} USD: {text[:40]!r}")
    micro = amount * MICRO_PER_USD
    if micro != micro.to_integral_value():
        raise ValueError(f"more than six decimal places: {text[:40]!r}")
    return int(micro)


def format_usd(micro_usd: int) -> str:
    """Render micro-USD as a decimal string of USD with exactly six places."""
    sign = "-" if micro_usd < 0 else ""
    whole, fraction = divmod(abs(micro_usd), MICRO_PER_USD)
    return f"{sign}{whole}.{fraction:06d}"


def micro_usd_from_float(usd: float) -> int:
    """Round a float of USD, as price maps and providers report it, to the nearest micro-USD.

    Raises:
        ValueError: it is negative, not finite, or more than `MAX_USD`.
    """
    if not 0 <= usd <= MAX_USD:
        raise ValueError(f"not an amount of USD from 0 to {MAX_USD}")
    return int((Decimal(repr(usd)) * MICRO_PER_USD).to_integral_value(ROUND_HALF_UP))
