"""Read OpenHands' saved LLM profiles as its own store does, but without its file locks.

The store replaces files atomically, so reading needs no lock, and the event loop must not wait for another process. A key that
cannot be decrypted is an error: it is neither dropped nor sent as ciphertext. Keys stay inside the SDK's `SecretStr`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from openhands.sdk import LLM
from openhands.sdk.llm.exceptions import LLMError
from openhands.sdk.llm.llm import LLM_SECRET_FIELDS
from openhands.sdk.llm.provider_connection_store import ProviderConnectionStore
from openhands.sdk.utils.cipher import FERNET_TOKEN_PREFIX, Cipher
from openhands.sdk.utils.pydantic_secrets import STRICT_DECRYPT_CONTEXT_KEY, SecretDecryptionError
from pydantic import SecretStr, ValidationError

from a2a_gateway.agents.llm.configured_llm import ConfiguredLLM
from a2a_gateway.agents.profiles.definition_errors import (
    UNEXPECTED,
    DefinitionError,
    Fault,
    UndecryptableError,
    definition_error,
    from_syntax_error,
    from_unexpected_error,
    from_validation_error,
    read_text,
)

PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""OpenHands' rule for names of profiles: no separators and no leading dot, so that a name never leaves its directory."""

_UNDECRYPTABLE: Final = "its key was encrypted with another OH_SECRET_KEY; set that one, or add it to OH_PREVIOUS_SECRET_KEYS"


@dataclass(frozen=True, slots=True)
class SavedLLMs:
    """A snapshot of OpenHands' saved LLM profiles, including the broken ones; an `LLMProfileLoader` of the SDK."""

    found: Mapping[str, LLM | DefinitionError] = field(repr=False)  # headers may hold credentials

    @classmethod
    def read(cls, files: Iterable[Path], cipher: Cipher | None) -> Self:
        """Read profiles, each from its `NAME.json`."""
        return cls({path.stem: _read(path, cipher) for path in files})

    def load(self, name: str, *, cipher: Cipher | None = None) -> LLM:
        """Return a copy of a profile. `cipher` belongs to the SDK's protocol, and has no use: secrets are decrypted already.

        Raises:
            FileNotFoundError: there is no profile of that name.
            DefinitionError: it is broken.
        """
        llm = self.found.get(name.removesuffix(".json"))
        if llm is None:
            raise FileNotFoundError(name)
        if isinstance(llm, DefinitionError):
            raise definition_error(f"LLM profile {name}: {llm}")
        return llm.model_copy()


def _read(path: Path, cipher: Cipher | None) -> LLM | DefinitionError:
    try:
        if not PROFILE_NAME.fullmatch(path.stem):
            raise definition_error(
                "the file's name must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        llm = _parse(read_text(path), cipher)
        return _with_connection(llm, path.parent.parent / "provider-connections", cipher)
    except DefinitionError as error:
        return error


def _parse(text: str, cipher: Cipher | None) -> LLM:
    try:
        data = json.loads(text)
        if isinstance(data, dict) and data.get("auth_type") == "subscription":
            raise definition_error("an LLM by subscription needs a login, which a gateway cannot do; use an API key", "auth_type")
        llm = ConfiguredLLM.from_persisted(data, context={"cipher": cipher, STRICT_DECRYPT_CONTEXT_KEY: True} if cipher else None)
    except json.JSONDecodeError as error:
        raise from_syntax_error(error) from None
    except SecretDecryptionError:
        raise _undecryptable_error() from None
    except ValidationError as error:
        raise from_validation_error(error) from None
    except LLMError as error:
        raise definition_error(error.message) from None
    except UNEXPECTED as error:
        raise from_unexpected_error(error) from None
    return _require_decrypted(llm)


def _require_decrypted(llm: LLM) -> LLM:
    for name in LLM_SECRET_FIELDS:
        value = getattr(llm, name)
        if isinstance(value, SecretStr) and value.get_secret_value().startswith(FERNET_TOKEN_PREFIX):
            raise definition_error("its key is encrypted: set OH_SECRET_KEY", name)
    return llm


def _with_connection(llm: LLM, directory: Path, cipher: Cipher | None) -> LLM:
    if llm.provider_connection_id is None:
        return llm
    missing = definition_error(f"there is no provider connection {llm.provider_connection_id[:60]!r}", "provider_connection_id")
    if not directory.is_dir():
        raise missing
    try:
        connection = ProviderConnectionStore(directory).get(llm.provider_connection_id, cipher=cipher)
    except ValidationError as error:
        raise _undecryptable_error() if cipher else from_validation_error(error, ("provider_connection_id",)) from None
    except (OSError, *UNEXPECTED) as error:
        message = f"the provider connections cannot be read: {type(error).__name__}"
        raise definition_error(message, "provider_connection_id") from None
    if connection is None:
        raise missing
    return _require_decrypted(llm.model_copy(update={"base_url": connection.base_url, "api_key": connection.api_key}))


def _undecryptable_error() -> UndecryptableError:
    return UndecryptableError(Fault(_UNDECRYPTABLE, ("api_key",)))
