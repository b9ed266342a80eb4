"""Collect the credentials in LLM templates, so that they can be masked in everything that leaves a run."""

from openhands.sdk import LLM
from pydantic import SecretStr


def llm_secrets(*llms: LLM | None) -> list[str]:
    """Return the credentials in LLM templates."""
    found = []
    for llm in llms:
        if llm is not None:
            found += [value.get_secret_value() for value in vars(llm).values() if isinstance(value, SecretStr)]
    return found
