"""Replace prices and usage checks in the SDK's telemetry of an LLM, so that its metrics and the ledger agree."""

from typing import Any

from openhands.sdk.llm.utils.telemetry import Telemetry
from pydantic import PrivateAttr

from a2a_gateway.agents.llm.call import Attempt, current_call
from a2a_gateway.agents.llm.pricing import LLMReply, Prices, answer_bytes, reported_cost, usage_of


class PricedTelemetry(Telemetry):
    """The SDK's telemetry, with the gateway's prices and checks of reported usage."""

    _prices: Prices = PrivateAttr()

    def _compute_cost(self, resp: LLMReply, provider_info: object = None) -> float | None:
        attempt = call.attempt if (call := current_call.get()) else Attempt()
        attempt.usage = usage_of(resp)
        reported = attempt.reported if attempt.has_streamed else reported_cost(resp)
        attempt.cost_usd = self._prices.cost_usd(resp, attempt.usage, reported)
        if attempt.usage is None:
            attempt.answer_bytes = answer_bytes(resp)
        return None if attempt.cost_usd is None else float(attempt.cost_usd)

    def _record_usage(self, *args: Any) -> None:
        """Count the tokens, unless the reported numbers are impossible: the SDK would reject the whole answer."""
        call = current_call.get()
        if call is None or call.attempt.usage is not None:
            super()._record_usage(*args)
