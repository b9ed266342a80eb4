"""Read OpenHands' and LiteLLM's conventional variables once, so that they can be removed before an agent gets a shell.

Defines which variables are read, which of them are secrets, and the variable of each provider's key. Does not import the SDK.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pydantic import SecretStr

# LiteLLM's names that differ from PROVIDER_API_KEY. The first that is set has precedence, as in LiteLLM.
_PROVIDER_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "friendliai": ("FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "github": ("GITHUB_API_KEY",),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "qwencloud": ("QWENCLOUD_API_KEY", "DASHSCOPE_API_KEY"),
    "text-completion-openai": ("OPENAI_API_KEY",),
    "together_ai": ("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN"),
    "watsonx": ("WATSONX_API_KEY", "WATSONX_APIKEY"),
}

# Names of variables that contain credentials, including those that are not read here: agents must not see them either.
_SECRET_NAME: Final = re.compile(
    r"""  .+_(API_?KEYS?|API_TOKEN|AUTH_TOKEN|ACCESS_TOKEN|SECRET_KEY|CLIENT_SECRET)
        | OH_PREVIOUS_SECRET_KEYS(_\d+)? | OH_SESSION_API_KEYS(_\d+)? | SESSION_API_KEY
        | AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|BEARER_TOKEN_BEDROCK)
        | MCP_.+  # for MCP servers, if a profile names them
        | HF_TOKEN | FRIENDLI_TOKEN | FIREWORKS_AI_TOKEN | TOGETHER_AI_TOKEN | WATSONX_(APIKEY|TOKEN|ZENAPIKEY)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class LLMEnvironment:
    """The environment's settings for LLMs and for OpenHands' saved profiles; no `repr` contains a secret.

    Attributes:
        model: LiteLLM model id of `LLM_MODEL`; None if it is not set.
        cipher_keys: keys that may decrypt OpenHands' saved secrets: the current one first, then earlier ones.
        secrets: every credential found, by variable name; the process may remove these variables afterwards.
        variables: all variables, because any of them may be named as the one that holds a key.
    """

    persistence_dir: Path
    model: str | None = None
    api_key: SecretStr | None = None
    base_url: str | None = None
    cipher_keys: tuple[SecretStr, ...] = ()
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    variables: Mapping[str, SecretStr] = field(default_factory=dict)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; a blank one counts as not set."""
        found = {name: value.strip() for name, value in environ.items() if value.strip()}
        directory = Path(found.get("OH_PERSISTENCE_DIR", "~/.openhands")).expanduser()
        return cls(
            persistence_dir=Path.cwd() / directory,
            model=found.get("LLM_MODEL"),
            api_key=_secret(found.get("LLM_API_KEY")),
            base_url=found.get("LLM_BASE_URL"),
            cipher_keys=tuple(SecretStr(key) for key in _cipher_keys(found)),
            secrets={name: SecretStr(value) for name, value in found.items() if _SECRET_NAME.fullmatch(name)},
            variables={name: SecretStr(value) for name, value in found.items()},
        )

    def provider_key(self, provider: str) -> SecretStr | None:
        """Return the key that LiteLLM would take from the environment for one of its providers, such as `anthropic`."""
        return next((self.secrets[name] for name in provider_variables(provider) if name in self.secrets), None)

    @property
    def accepts_short_contexts(self) -> bool:
        """Whether OpenHands' own switch allows any size of context."""
        switch = self.variables.get("ALLOW_SHORT_CONTEXT_WINDOWS")
        return switch is not None and switch.get_secret_value().lower() in ("true", "1", "yes")

    @property
    def aws_credentials(self) -> Mapping[str, SecretStr]:
        """The AWS credentials that are set, by the name of the LLM's field."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return {name.lower(): self.secrets[name] for name in names if name in self.secrets}


def provider_variables(provider: str) -> tuple[str, ...]:
    """Return the variables that may hold the key of a provider, such as `ANTHROPIC_API_KEY`."""
    return _PROVIDER_KEYS.get(provider, (re.sub(r"\W", "_", provider).upper() + "_API_KEY",))


def _secret(value: str | None) -> SecretStr | None:
    return None if value is None else SecretStr(value)


def _cipher_keys(found: Mapping[str, str]) -> tuple[str, ...]:
    # Without a configured key, OpenHands encrypts its secrets with the session key.
    current = found.get("OH_SECRET_KEY") or found.get("SESSION_API_KEY") or found.get("OH_SESSION_API_KEYS_0")
    return () if current is None else (current, *_previous_keys(found))


def _previous_keys(found: Mapping[str, str]) -> tuple[str, ...]:
    numbered = tuple(found[name] for name in sorted(found) if re.fullmatch(r"OH_PREVIOUS_SECRET_KEYS_\d+", name))
    text = found.get("OH_PREVIOUS_SECRET_KEYS", "")
    try:
        listed = json.loads(text) if text else []
    except ValueError:
        listed = [text]
    keys = listed if isinstance(listed, list) else [listed]
    return (*(key for key in keys if isinstance(key, str)), *numbered)
