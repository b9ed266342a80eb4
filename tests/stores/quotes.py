"""What calls ask for in the tests of the ledger."""

from decimal import Decimal

from a2a_gateway.runs.model import CallQuote


def calls_of(micro_usd: int) -> CallQuote:
    """Quote a call that costs this much, whatever its answer."""
    return CallQuote(micro_usd, 0, usd_per_prompt_token=Decimal("0.000001"), usd_per_output_token=Decimal(0))


FREE = calls_of(0)
