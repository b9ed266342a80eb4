"""Build the template of a profile's LLM: the resolved LLM with the gateway's retries and timeouts, and the profile's prices."""

import math
from typing import Any, Final

from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from a2a_gateway.agents.llm.sampling import sampling_fields
from a2a_gateway.agents.profiles.llm_resolver import ResolvedLLM
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.settings import Settings

_TOKENS_PER_MTOK: Final = 1_000_000
# The SDK silently truncates longer messages in the middle. If a message is too long, the LLM's refusal is the better error.
_NO_TRUNCATION_CHARS: Final = 2**31 - 1
_SAMPLING: Final = ("temperature", "top_p", "seed", "reasoning_effort")


def build_template(resolved: ResolvedLLM, settings: Settings) -> ConfiguredLLM:
    """Give an LLM the gateway's retries, timeouts and streaming, and the prices and sizes of its fields."""
    llm, fields = resolved.llm, resolved.fields
    template = llm.model_copy(
        update={
            "usage_id": "agent",
            "stream": fields.stream,
            # The SDK counts attempts, waits base * 2^n seconds between them, and accepts only whole seconds as a timeout.
            "num_retries": settings.llm_retries + 1,
            "retry_multiplier": settings.llm_retry_wait_s,
            "retry_min_wait": 0,
            "retry_max_wait": math.ceil(settings.llm_retry_wait_s * 8),
            "timeout": math.ceil(settings.llm_timeout_s),
            "stream_idle_timeout": settings.llm_timeout_s,
            "max_message_chars": _NO_TRUNCATION_CHARS,
            "log_completions": False,
            **_stated_fields(resolved),
        }
    )
    # A parameter of the settings is changed in the same way as an option of a request, for example to what the provider accepts.
    sampling = {name: value for name, value in fields.parameters.items() if name in _SAMPLING}
    if sampling:
        template = template.model_copy(update=sampling_fields(template, Sampling(**sampling)))
    template.reset_metrics()  # telemetry contains the prices, and a copy shares the telemetry of its original
    return template


def condenser_template(template: ConfiguredLLM) -> ConfiguredLLM:
    """Build the LLM that summarises long histories: the same model with metrics of its own, not streamed."""
    condenser = template.model_copy(update={"usage_id": "condenser", "stream": False})
    condenser.reset_metrics()
    return condenser


def usd_per_token(usd_per_mtok: float | None) -> float | None:
    """Convert a price for a million tokens into one for a token."""
    return None if usd_per_mtok is None else usd_per_mtok / _TOKENS_PER_MTOK


def _stated_fields(resolved: ResolvedLLM) -> dict[str, Any]:
    llm, stated = resolved.llm, resolved.fields
    fields: dict[str, Any] = {
        "input_cost_per_token": usd_per_token(stated.input_usd_per_mtok),
        "output_cost_per_token": usd_per_token(stated.output_usd_per_mtok),
        "max_input_tokens": stated.context_length,
        "max_output_tokens": stated.max_output_tokens,
    }
    if stated.vision is not None:
        fields["capability_overrides"] = {**llm.capability_overrides, "supports_vision": stated.vision}
        fields["disable_vision"] = not stated.vision
    return {name: value for name, value in fields.items() if value is not None}
