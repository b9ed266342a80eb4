"""Resolve the LLM of a definition: its model, its credentials, and the gateway's own settings for retries and timeouts."""

import math
from dataclasses import dataclass
from typing import Any, Final

from openhands.sdk import LLM
from openhands.sdk.llm.exceptions import LLMError
from openhands.sdk.llm.utils.litellm_provider import LLMProvider
from openhands.sdk.llm.utils.openhands_provider import litellm_call_kwargs
from pydantic import SecretStr, ValidationError

from a2a_gateway.agents.profiles.a2a_block import GatewayBlock
from a2a_gateway.agents.profiles.definition_errors import definition_error, from_validation_error
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from a2a_gateway.agents.profiles.saved_llms import SavedLLMs
from a2a_gateway.settings import Settings

INHERIT: Final = "inherit"

_TOKENS_PER_MTOK: Final = 1_000_000
# The SDK silently truncates longer messages in the middle. If a message is too long, the LLM's refusal is the better error.
_NO_TRUNCATION_CHARS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LLMResolver:
    """Resolves the LLM of a definition, including its key."""

    saved: SavedLLMs
    environment: LLMEnvironment

    def of_definition(self, model: str) -> LLM:
        """Return the LLM that a definition's `model` names: the environment's, a saved profile's, or that of a LiteLLM model id.

        Raises:
            DefinitionError: it names neither of these.
        """
        if model in ("", INHERIT):
            return self.of_environment()
        try:
            return self.with_credentials(self.saved.load(model))
        except FileNotFoundError:
            return self._of_model_id(model)

    def of_environment(self) -> LLM:
        """Build the LLM of `LLM_MODEL`, `LLM_API_KEY` and `LLM_BASE_URL`.

        Raises:
            DefinitionError: `LLM_MODEL` is not set, or the SDK refuses it.
        """
        if self.environment.model is None:
            raise definition_error("no LLM is set: name a model, or set LLM_MODEL")
        return self._of_model_id(self.environment.model)

    def with_credentials(self, llm: LLM) -> LLM:
        """Give an LLM without a key the one that LiteLLM would have read from the environment."""
        provider = _provider(llm.model, llm.base_url) or ""
        if provider.startswith(("bedrock", "sagemaker")) and llm.aws_access_key_id is None:
            return llm.model_copy(update=dict(self.environment.aws_credentials))
        if llm.api_key is None:
            return llm.model_copy(update={"api_key": self.environment.provider_key(provider)})
        return llm

    def _of_model_id(self, model: str) -> LLM:
        base_url = self.environment.base_url
        provider = _provider(model, base_url)
        if provider is None:
            message = f"{model[:80]!r} is neither one of OpenHands' LLM profiles nor a model that LiteLLM knows"
            raise definition_error(f"{message}; for a server of your own, add its protocol, as in openai/{model[:80]}")
        # LLM_API_KEY is sent only to the provider of LLM_MODEL. Without LLM_MODEL, it is for whatever provider is named.
        if self.environment.model is None or provider == _provider(self.environment.model, base_url):
            return self.with_credentials(_llm(model, self.environment.api_key, base_url))
        return self.with_credentials(_llm(model))


def _llm(model: str, api_key: SecretStr | None = None, base_url: str | None = None) -> LLM:
    try:
        return LLM(model=model, api_key=api_key, base_url=base_url)
    except ValidationError as error:
        raise from_validation_error(error) from None
    except LLMError as error:
        raise definition_error(error.message) from None


def build_template(llm: LLM, settings: Settings, block: GatewayBlock) -> LLM:
    """Give an LLM the gateway's retries, timeouts and streaming, and a profile's prices and sizes."""
    template = llm.model_copy(
        update={
            "usage_id": "agent",
            "stream": block.stream,
            # The SDK counts attempts, waits base * 2^n seconds between them, and accepts only whole seconds as a timeout.
            "num_retries": settings.llm_retries + 1,
            "retry_multiplier": settings.llm_retry_wait_s,
            "retry_min_wait": 0,
            "retry_max_wait": math.ceil(settings.llm_retry_wait_s * 8),
            "timeout": math.ceil(settings.llm_timeout_s),
            "stream_idle_timeout": settings.llm_timeout_s,
            "max_message_chars": _NO_TRUNCATION_CHARS,
            "log_completions": False,
            **_block_fields(llm, block),
        }
    )
    template.reset_metrics()  # telemetry contains the prices, and a copy shares the telemetry of its original
    return template


def condenser_template(template: LLM) -> LLM:
    """Build the LLM that summarises long histories: the same model with metrics of its own, not streamed."""
    condenser = template.model_copy(update={"usage_id": "condenser", "stream": False})
    condenser.reset_metrics()
    return condenser


def _block_fields(llm: LLM, block: GatewayBlock) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "input_cost_per_token": usd_per_token(block.input_usd_per_mtok),
        "output_cost_per_token": usd_per_token(block.output_usd_per_mtok),
        "max_input_tokens": block.context_length,
        "max_output_tokens": block.max_output_tokens,
    }
    if block.vision is not None:
        fields["capability_overrides"] = {**llm.capability_overrides, "supports_vision": block.vision}
        fields["disable_vision"] = not block.vision
    return {name: value for name, value in fields.items() if value is not None}


def usd_per_token(usd_per_mtok: float | None) -> float | None:
    """Convert a price for a million tokens into one for a token."""
    return None if usd_per_mtok is None else usd_per_mtok / _TOKENS_PER_MTOK


def _provider(model: str, base_url: str | None) -> str | None:
    call = litellm_call_kwargs(model, base_url)
    return LLMProvider.from_model(model=call["model"], api_base=call["api_base"]).name
