"""An LLM as settings describe it: the template from which the LLMs of runs are built."""

from collections.abc import Mapping
from typing import Any, Final

from openhands.sdk import LLM
from pydantic import PrivateAttr

LEAST_CONTEXT_TOKENS: Final = 16_384
"""The context that OpenHands' agents need, by the SDK's own rule."""


class ConfiguredLLM(LLM):
    """An LLM with parameters of LiteLLM for which the SDK has no field, and with a context of any size.

    The SDK refuses a small context when the object is created, before a profile can state the real size. The profiles check it.
    """

    _parameters: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters that are added to each request."""
        return self._parameters

    def with_parameters(self, parameters: Mapping[str, Any]) -> "ConfiguredLLM":
        """Return a copy with these parameters."""
        copy = self.model_copy()
        copy._parameters = parameters
        return copy

    def _validate_context_window_size(self) -> None:
        """Accept a context of any size."""
