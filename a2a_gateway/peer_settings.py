"""Settings of one peer: how it is reached, how the two gateways authenticate, and what each may do on the other.

A peer comes from `[[peers]]` in `gateway.toml`, or from the store, where `a2a-gateway peer add` puts it.
"""

import base64
import binascii
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from a2a_gateway.errors import ConfigurationError
from delegate_tool.protocol.base_url import parse_base_url
from delegate_tool.protocol.money import parse_usd
from delegate_tool.protocol.values import can_be_key

PUBLIC_KEY_BYTES: Final = 32
DEFAULT_MAX_OUTPUT_TOKENS: Final = 16_384
_PLAIN_ONLY: Final = frozenset({"input_usd_per_mtok", "output_usd_per_mtok", "prices", "reports_cost", "max_output_tokens"})
_SECRET_CHARS: Final = 32
"""HS256 needs a secret of 256 bits (RFC 7518, 3.2)."""


def _check_usd(value: object) -> str:
    parse_usd(str(value))
    return str(value)


def _check_public_key(text: str) -> str:
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise ValueError("it is not an Ed25519 public key such as `a2a-gateway peer key` prints on the peer")
    return text.rstrip("=")


type Url = Annotated[str, AfterValidator(parse_base_url)]
type Usd = Annotated[str, BeforeValidator(_check_usd)]
type UsdPerMtok = Annotated[Decimal, Field(ge=0, le=10**9, allow_inf_nan=False)]
type PublicKey = Annotated[str, AfterValidator(_check_public_key)]


def micro_usd(amount: Usd | None) -> int | None:
    """Return an amount of the settings in micro-USD, or None if there is no limit."""
    return None if amount is None else parse_usd(amount)


class PeerPolicy(BaseModel):
    """What a peer may do on this gateway, whatever its grants allow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agents: frozenset[str] | None = Field(default=None, description="The only models that it may run. Default: all.")
    max_depth: int | None = Field(default=None, ge=0, description="Greatest depth of its trees.")
    max_runs: int | None = Field(default=None, ge=0, description="Descendants of each of its runs.")
    timeout_s: float | None = Field(default=None, gt=0, description="Duration of each of its runs.")
    budget_usd: Usd | None = Field(default=None, description="Budget of each of its runs.")
    budget_total_usd: Usd | None = Field(default=None, description="Budget of all its runs together.")
    budget_per_day_usd: Usd | None = Field(default=None, description="Budget of all its runs together, for each day (UTC).")
    budget_per_month_usd: Usd | None = Field(default=None, description="Budget of all its runs together, for each month (UTC).")
    max_concurrent_runs: int | None = Field(
        default=None, ge=1, description="Its runs under way at the same time. Default: the limit of every key."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Runs that it may begin within a minute. Default: the limit of every key."
    )


class ModelPrice(BaseModel):
    """What a million tokens of one model cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_usd_per_mtok: UsdPerMtok
    output_usd_per_mtok: UsdPerMtok


class PeerSettings(BaseModel):
    """Another gateway, or a plain OpenAI endpoint, whose agents are served here as `{id}/{model}`.

    The gateway presents an ordinary API key to it, or, without one, grants: signed by its own key or with a shared secret. Grants
    of the peer are accepted if a public key, a JWKS URL or a shared secret is set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Its name here, the prefix of its models.")
    gateway_id: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Its own `gateway_id`. Default: `id`."
    )
    base_url: Url | None = Field(
        default=None, description="Its OpenAI base URL. Left out for a peer that only calls this gateway."
    )
    api_key: SecretStr | None = Field(
        default=None, description="An API key of the peer. Prefer `api_key_env` or `api_key_file` to a key in a settings file."
    )
    api_key_env: str | None = Field(default=None, description="Environment variable that holds the API key.")
    api_key_file: Path | None = Field(default=None, description="File that holds the API key.")
    shared_secret_env: str | None = Field(
        default=None, description="Environment variable that holds a secret with which both gateways sign their grants (HS256)."
    )
    shared_secret_file: Path | None = Field(default=None, description="File that holds the shared secret.")
    public_key: PublicKey | None = Field(
        default=None, description="Ed25519 key with which the peer signs its grants, as `a2a-gateway peer key` prints it there."
    )
    jwks_url: str | None = Field(
        default=None, description="URL at which the peer publishes its keys; fetched again when it signs with an unknown key."
    )
    accepts: PeerPolicy = Field(default=PeerPolicy(), description="What the peer's grants may do here.")
    agents: frozenset[str] | None = Field(
        default=None,
        description="The only models of it that are served. Default: all of its own agents; all models of a plain endpoint.",
    )
    opaque: bool = Field(
        default=False, description="It is a plain endpoint: no limits are sent to it, and it may not report its cost."
    )
    input_usd_per_mtok: UsdPerMtok | None = Field(
        default=None,
        description="Price of a million prompt tokens of all models without an entry in `prices`; plain endpoints only.",
    )
    output_usd_per_mtok: UsdPerMtok | None = Field(
        default=None, description="Price of a million completion tokens; given together with `input_usd_per_mtok`."
    )
    prices: Mapping[str, ModelPrice] = Field(default={}, description="Prices of single models, by their names there.")
    reports_cost: bool = Field(
        default=False, description="It reports the cost of each answer, so budgets work without prices; plain endpoints only."
    )
    max_output_tokens: int = Field(
        default=DEFAULT_MAX_OUTPUT_TOKENS,
        ge=1,
        le=10**9,
        description="Tokens of one answer under a budget, if the request has no maximum; plain endpoints only.",
    )
    max_depth: int | None = Field(default=None, ge=0, description="Greatest depth of trees with a run there.")
    max_runs: int | None = Field(default=None, ge=0, description="Descendants of each run there.")
    timeout_s: float | None = Field(default=None, gt=0, description="Duration of each run there.")
    budget_usd: Usd | None = Field(default=None, description="Budget of each run there.")

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if value.startswith("openhands_"):
            raise ValueError("a peer's id must not begin with openhands_, as this gateway's own models do")
        return value

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.base_url is None and not self.is_trusted:
            raise ValueError("it needs a base_url, to be called, or a public_key, jwks_url or shared secret, to call")
        if self.opaque and (self.is_trusted or not self.has_api_key or self.base_url is None):
            raise ValueError("a plain endpoint (opaque) needs a base_url and an API key, and cannot present grants")
        return self

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None):
            raise ValueError("input_usd_per_mtok and output_usd_per_mtok must be given together or not at all")
        if not self.opaque and _PLAIN_ONLY & self.model_fields_set:
            names = ", ".join(sorted(_PLAIN_ONLY & self.model_fields_set))
            raise ValueError(f"{names}: only for a plain endpoint (opaque = true); a gateway reports what its runs cost")
        return self

    @property
    def name(self) -> str:
        """The peer's own gateway id: the issuer of its grants, and the audience of grants for it."""
        return self.gateway_id or self.id

    @property
    def budget_micro_usd(self) -> int | None:
        """The budget of a run there."""
        return micro_usd(self.budget_usd)

    def price_of(self, model: str) -> ModelPrice | None:
        """Return the price of one of its models, or None if no price is set."""
        if model in self.prices:
            return self.prices[model]
        if self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            return None
        return ModelPrice(input_usd_per_mtok=self.input_usd_per_mtok, output_usd_per_mtok=self.output_usd_per_mtok)

    @property
    def has_api_key(self) -> bool:
        """Whether this gateway presents an API key to it rather than grants."""
        return not (self.api_key is None and self.api_key_env is None and self.api_key_file is None)

    @property
    def has_shared_secret(self) -> bool:
        """Whether both gateways sign their grants with a shared secret."""
        return not (self.shared_secret_env is None and self.shared_secret_file is None)

    @property
    def is_trusted(self) -> bool:
        """Whether this gateway accepts its grants."""
        return self.public_key is not None or self.jwks_url is not None or self.has_shared_secret

    @property
    def secret_variables(self) -> frozenset[str]:
        """Names of the environment variables that hold its secrets."""
        return frozenset(name for name in (self.api_key_env, self.shared_secret_env) if name is not None)

    def read_api_key(self, environ: Mapping[str, str]) -> str:
        """Read the API key for the peer.

        Raises:
            ConfigurationError: it is missing or malformed.
        """
        key = self._read_secret("key", environ, self.api_key, self.api_key_env, self.api_key_file)
        if not can_be_key(key):
            raise ConfigurationError(
                f"The API key for the peer {self.id} has characters that an API key cannot have, such as spaces."
            )
        return key

    def read_shared_secret(self, environ: Mapping[str, str]) -> str:
        """Read the secret shared with the peer.

        Raises:
            ConfigurationError: it is missing or too short.
        """
        secret = self._read_secret("shared secret", environ, None, self.shared_secret_env, self.shared_secret_file)
        if len(secret) < _SECRET_CHARS:
            raise ConfigurationError(
                f"The secret shared with the peer {self.id} has {len(secret)} characters; at least {_SECRET_CHARS} are needed, "
                "such as `openssl rand -hex 32` makes."
            )
        return secret

    def _read_secret(
        self, what: str, environ: Mapping[str, str], given: SecretStr | None, variable: str | None, file: Path | None
    ) -> str:
        secret = given.get_secret_value() if given is not None else environ.get(variable or "", "")
        if not secret and file is not None:
            secret = self._read_file(what, file)
        secret = secret.strip()  # files, and variables read from files, end with a line break
        if not secret:
            where = f": {variable} is not set" if variable else ""
            raise ConfigurationError(f"The peer {self.id} has no {what}{where}.")
        return secret

    def _read_file(self, what: str, file: Path) -> str:
        try:
            return file.read_text()
        except OSError as error:
            why = error.strerror or str(error)
        except UnicodeDecodeError:
            why = "it is not text"
        raise ConfigurationError(f"The file of the {what} of the peer {self.id} cannot be read: {why}.")
