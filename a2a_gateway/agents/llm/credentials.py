"""The credentials that LLM templates hold, for the masking of what leaves a run."""

from openhands.sdk import LLM
from pydantic import SecretStr


def llm_secrets(*llms: LLM | None) -> list[str]:
    """List the credentials that LLM templates hold."""
    found = []
    for llm in llms:
        if llm is not None:
            found += [value.get_secret_value() for value in vars(llm).values() if isinstance(value, SecretStr)]
    return found
