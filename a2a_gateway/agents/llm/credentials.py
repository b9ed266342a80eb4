"""Collect the credentials in LLM templates, so that they can be masked in everything that leaves a run."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import SecretStr

from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM

_SECRET_NAME: Final = re.compile(r"auth|key|token|secret|password|cookie|credential", re.IGNORECASE)
_SCHEMES: Final = ("Bearer ", "Basic ", "Token ")


def llm_secrets(*llms: ConfiguredLLM | None) -> list[str]:
    """Return the credentials in LLM templates, also those in headers and other parameters, by their names."""
    found: list[str] = []
    for llm in llms:
        if llm is not None:
            found += [value.get_secret_value() for value in vars(llm).values() if isinstance(value, SecretStr)]
            found += _named_secrets(llm.extra_headers or {})
            found += _named_secrets(llm.litellm_extra_body)
            found += _named_secrets(llm.parameters)
    return found


def _named_secrets(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        match value:
            case Mapping():
                yield from _named_secrets(value)
            case str() if _SECRET_NAME.search(name):
                yield value
                yield from (value.removeprefix(scheme) for scheme in _SCHEMES if value.startswith(scheme))
