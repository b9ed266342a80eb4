"""Apply a request's sampling options to an LLM, and find the options that have no effect at its provider. Pure.

Providers accept different options, and the SDK and LiteLLM drop those that a model does not accept. An option without effect is
found by comparison: the request's options are built twice, once with the requested value and once with another. If both are the
same, the option is ignored. So no list has to follow the libraries. Values that a provider would refuse, and that no library
knows about, are reduced to what the provider accepts.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import litellm
from litellm.responses.utils import ResponsesAPIRequestUtils
from litellm.types.utils import LlmProviders
from litellm.utils import ProviderConfigManager, get_optional_params, validate_openai_optional_params
from openai import OpenAIError
from openhands.sdk import LLM
from openhands.sdk.llm.options.chat_options import select_chat_options
from openhands.sdk.llm.options.responses_options import select_responses_options

from a2a_gateway.agents.llm.reasoning import EFFORT_TOKENS, fit_reasoning, is_claude
from a2a_gateway.runs.messages import Sampling

_MOST_STOPS: Final = 4
"""OpenAI's limit, which LiteLLM applies to all providers."""
_MAX_TEMPERATURE: Final[Mapping[str, float]] = {
    "claude": 1.0,
    "anthropic/": 1.0,
    "bedrock/": 1.0,
    "moonshot/": 1.0,
    "kimi": 1.0,
    "glm-": 1.0,
    "minimax": 1.0,
    "mistral/": 1.5,
    "dashscope/": 1.99,
}
"""The maximum that providers accept, by a part of the model's name, if it is less than OpenAI's 2."""
_EFFORTS: Final = ("none", "low", "high")
_CHAT_OPTIONS: Final = frozenset(inspect.signature(get_optional_params).parameters) - {"extra_headers"}
_WIRE_NAMES: Final = {"max_output_tokens": "max_tokens"}


def sampling_fields(template: LLM, requested: Sampling) -> dict[str, object]:
    """Return the fields of an LLM that a request changes, with values that its provider accepts."""
    reasons = bool((template.model_info or {}).get("supports_reasoning"))
    # On the responses endpoint, the SDK sends a temperature also to models that refuse it.
    refuses_temperature = reasons and template.uses_responses_api()
    fields: dict[str, object] = {
        "temperature": None if refuses_temperature else _least(requested.temperature, _max_temperature(template)),
        "top_p": requested.top_p,
        "seed": requested.seed,
        "max_output_tokens": _least(requested.max_output_tokens, _max_output_tokens(template)),
        "reasoning_effort": requested.reasoning_effort,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    if requested.reasoning_effort is not None and template.extended_thinking_budget:
        # If the SDK sends this budget, it overrides the effort.
        fields["extended_thinking_budget"] = EFFORT_TOKENS.get(requested.reasoning_effort)
    if (requested.temperature, requested.top_p) != (None, None) and not reasons:
        # The SDK assumes that unknown models, and many known ones, refuse these options.
        fields["capability_overrides"] = {"supports_sampling_params": True, **template.capability_overrides}
    return fields


def accepted_stops(template: LLM, requested: Sampling) -> tuple[str, ...]:
    """Return the stop sequences that the LLM's provider accepts."""
    if not template.native_tool_calling and not template.disable_stop_word:
        return ()  # the SDK replaces them by its own, which mark the end of a tool call by prompting
    stops = tuple(stop for stop in requested.stop if stop.strip()) if is_claude(template) else requested.stop
    return stops[:_MOST_STOPS]


def ignored_options(template: LLM, requested: Sampling) -> tuple[str, ...]:
    """Return the wire names of the options of a request that have no effect, or a smaller value than requested."""
    if requested == Sampling():
        return ()
    llm = _with_sampling(template, requested)
    reducible = ("temperature", "max_output_tokens", "reasoning_effort")
    changed = {name for name in reducible if getattr(requested, name) not in (None, getattr(llm, name))}
    if accepted_stops(template, requested) != requested.stop:
        changed.add("stop")
    try:
        sent = _provider_options(template, requested)
        changed |= {
            name for name, others in _others(requested) if all(_provider_options(template, other) == sent for other in others)
        }
    except (OpenAIError, ValueError):  # LiteLLM does not know the provider, or refuses the options; the call will fail as well
        pass
    return tuple(sorted(_WIRE_NAMES.get(name, name) for name in changed))


def _others(requested: Sampling) -> Iterator[tuple[str, list[Sampling]]]:
    """Yield each option that was set, and the request with other values of it."""
    if requested.temperature is not None:
        yield "temperature", [replace(requested, temperature=0.25 if requested.temperature != 0.25 else 0.75)]
    if requested.top_p is not None:
        yield "top_p", [replace(requested, top_p=0.25 if requested.top_p != 0.25 else 0.75)]
    if requested.seed is not None:
        yield "seed", [replace(requested, seed=requested.seed ^ 1)]
    if requested.stop:
        yield "stop", [replace(requested, stop=())]
    if requested.max_output_tokens is not None:
        yield "max_output_tokens", [replace(requested, max_output_tokens=requested.max_output_tokens // 2 or 2)]
    if requested.reasoning_effort is not None:
        # A model may treat two efforts in the same way. The option is ignored only if all efforts have the same result.
        others = [effort for effort in _EFFORTS if effort != requested.reasoning_effort]
        yield "reasoning_effort", [replace(requested, reasoning_effort=effort) for effort in others]


def _provider_options(template: LLM, requested: Sampling) -> Mapping[str, Any]:
    """Return the options of a request as they are sent to its provider, without messages and tools."""
    llm = _with_sampling(template, requested)
    model, provider, *_ = litellm.get_llm_provider(model=llm.model, api_base=llm.base_url)
    if llm.uses_responses_api():
        return _sent_to_responses(llm, model, provider)
    stops = accepted_stops(template, requested)
    options = select_chat_options(llm, {"stop": list(stops)} if stops else {}, has_tools=False)
    known = {name: value for name, value in options.items() if name in _CHAT_OPTIONS}
    known["stop"] = validate_openai_optional_params(known.get("stop"))
    fixed = {"model": model, "custom_llm_provider": provider, "drop_params": llm.drop_params, "seed": llm.seed}
    sent: Mapping[str, Any] = get_optional_params(**{**known, **fixed})
    return sent


def _with_sampling(template: LLM, requested: Sampling) -> LLM:
    llm = template.model_copy(update=sampling_fields(template, requested))
    room = llm.effective_max_output_tokens
    return llm if room is None else llm.model_copy(update=fit_reasoning(llm, room))


def _sent_to_responses(llm: LLM, model: str, provider: str) -> Mapping[str, Any]:
    options = select_responses_options(llm, {}, include=None, store=None)
    config = ProviderConfigManager.get_provider_responses_api_config(model=model, provider=LlmProviders(provider))
    if config is None:
        return options
    sent: Mapping[str, Any] = ResponsesAPIRequestUtils.get_optional_params_responses_api(
        model=model,
        responses_api_provider_config=config,
        response_api_optional_params=ResponsesAPIRequestUtils.get_requested_response_api_optional_param(options),
        drop_params=llm.drop_params,
    )
    return sent


def _least[T: (int, float)](requested: T | None, most: T | None) -> T | None:
    return requested if requested is None or most is None else min(requested, most)


def _max_temperature(llm: LLM) -> float | None:
    names = f"{llm.model} {llm.model_canonical_name or ''}".lower()
    return min((most for part, most in _MAX_TEMPERATURE.items() if part in names), default=None)


def _max_output_tokens(llm: LLM) -> int | None:
    known = llm.max_output_tokens or (llm.model_info or {}).get("max_output_tokens")
    return known if isinstance(known, int) and known > 0 else None
