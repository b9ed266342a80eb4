"""Keep LiteLLM from asking an Ollama server about a model, which it does in blocking requests, several times for each LLM call.

On the event loop, one Ollama server that does not answer would stop all runs. The answer has no use here: profiles state the size
of the context, and agents always receive tools.
"""

from collections.abc import Callable
from typing import Any, Final

from a2a_gateway.agents.sdk_patches.patching import Patch


def _without_request(_: Callable[..., Any]) -> Callable[..., Any]:
    def get_runtime_model_info(self: object, model: str, *_: object, **__: object) -> dict[str, object]:
        """Return what LiteLLM returns if the server cannot be reached."""
        costs = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
        sizes = dict.fromkeys(("max_tokens", "max_input_tokens", "max_output_tokens"))
        return {"key": model.partition("/")[2] or model, "litellm_provider": "ollama", "mode": "chat", **costs, **sizes}

    return get_runtime_model_info


OLLAMA_MODEL_INFO: Final = (
    Patch("litellm.llms.ollama.common_utils:OllamaModelInfo", "get_runtime_model_info", _without_request),
)
