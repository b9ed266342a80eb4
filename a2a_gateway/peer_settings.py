"""Settings of one peer: how it is reached, how the two gateways know each other, and what each may do at the other.

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
from delegate_tool.protocol.money import parse_usd
from delegate_tool.protocol.values import can_be_key

PUBLIC_KEY_BYTES: Final = 32
DEFAULT_MAX_OUTPUT_TOKENS: Final = 16_384
_PLAIN_ONLY: Final = frozenset({"input_usd_per_mtok", "output_usd_per_mtok", "prices", "reports_cost", "max_output_tokens"})
_SECRET_CHARS: Final = 32
"""HS256 is as strong as its secret: 256 bits (RFC 7518, 3.2)."""


def _check_usd(value: object) -> str:
    parse_usd(str(value))
    return str(value)


def _check_public_key(text: str) -> str:
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise ValueError("it is not an Ed25519 public key, as `a2a-gateway peer key` prints it there")
    return text.rstrip("=")


type Usd = Annotated[str, BeforeValidator(_check_usd)]
type UsdPerMtok = Annotated[Decimal, Field(ge=0, le=10**9, allow_inf_nan=False)]
type PublicKey = Annotated[str, AfterValidator(_check_public_key)]


def micro_usd(amount: Usd | None) -> int | None:
    """Return an amount of the settings in micro-USD; None is no limit."""
    return None if amount is None else parse_usd(amount)


class PeerPolicy(BaseModel):
    """What a peer may do here, whatever its grants say.

    Attributes:
        agents: the only models that it may run; None is all.
        budget_usd: what one of its runs may cost; the other budgets are those of all its runs together.
        max_concurrent_runs: its runs here at once; without it, like requests_per_minute, the limit of every key holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    agents: frozenset[str] | None = None
    max_depth: int | None = Field(default=None, ge=0)
    max_runs: int | None = Field(default=None, ge=0)
    timeout_s: float | None = Field(default=None, gt=0)
    budget_usd: Usd | None = None
    budget_total_usd: Usd | None = None
    budget_per_day_usd: Usd | None = None
    budget_per_month_usd: Usd | None = None
    max_concurrent_runs: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)


class ModelPrice(BaseModel):
    """What a million tokens of one model cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_usd_per_mtok: UsdPerMtok
    output_usd_per_mtok: UsdPerMtok


class PeerSettings(BaseModel):
    """Another gateway, or a plain OpenAI endpoint, whose agents are served here as `{id}/{model}`.

    Attributes:
        gateway_id: what it calls itself; its `id` here unless it is given.
        base_url: its OpenAI base URL; None for one that only calls this gateway.
        api_key: this gateway's ordinary key there; better named by `api_key_env` or `api_key_file` than written into a file of
            settings. Without one, grants are presented: signed by this gateway's own key, or with the shared secret.
        shared_secret_env: names a secret that only the two know, by which each signs its grants for the other (HS256); it may be
            in a file as well.
        public_key: by which it signs the grants that it presents here (Ed25519).
        jwks_url: where it publishes that key; read again when it signs with another one.
        accepts: what its grants may do here.
        agents: the only models of it that are served; None is all of its own agents, and of a plain endpoint all models.
        opaque: it is a plain endpoint: it is sent no limits, and may not report what it costs.
        input_usd_per_mtok: what a million tokens cost, with `output_usd_per_mtok`, of all models that `prices` does not name.
            This and the next three are for plain endpoints only.
        prices: the same of single models, by their names there.
        reports_cost: it reports the cost of each answer, so that runs there are held to a budget without known prices.
        max_output_tokens: of one answer, under a budget, where the request names no number.
        budget_usd: what one run there may cost, at most; the other limits narrow each run likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    gateway_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    base_url: str | None = None
    api_key: SecretStr | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    shared_secret_env: str | None = None
    shared_secret_file: Path | None = None
    public_key: PublicKey | None = None
    jwks_url: str | None = None
    accepts: PeerPolicy = PeerPolicy()
    agents: frozenset[str] | None = None
    opaque: bool = False
    input_usd_per_mtok: UsdPerMtok | None = None
    output_usd_per_mtok: UsdPerMtok | None = None
    prices: Mapping[str, ModelPrice] = {}
    reports_cost: bool = False
    max_output_tokens: int = Field(default=DEFAULT_MAX_OUTPUT_TOKENS, ge=1, le=10**9)
    max_depth: int | None = Field(default=None, ge=0)
    max_runs: int | None = Field(default=None, ge=0)
    timeout_s: float | None = Field(default=None, gt=0)
    budget_usd: Usd | None = None

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if value.startswith("openhands_"):
            raise ValueError("a peer's id may not begin with openhands_, as this gateway's own models do")
        return value

    @model_validator(mode="after")
    def _check_that_it_is_of_use(self) -> Self:
        if self.base_url is None and not self.is_trusted:
            raise ValueError("it has neither a base_url, to be called, nor a public_key, jwks_url or shared secret, to call")
        if self.opaque and (self.is_trusted or not self.has_api_key or self.base_url is None):
            raise ValueError("a plain endpoint (opaque) has a base_url and an API key, and presents no grants")
        return self

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        if (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None):
            raise ValueError("input_usd_per_mtok and output_usd_per_mtok are given together or not at all")
        if not self.opaque and _PLAIN_ONLY & self.model_fields_set:
            names = ", ".join(sorted(_PLAIN_ONLY & self.model_fields_set))
            raise ValueError(f"{names}: only for a plain endpoint (opaque = true); a gateway reports what its runs cost")
        return self

    @property
    def name(self) -> str:
        """What the peer calls itself: the issuer of its grants, and the audience of those that it gets."""
        return self.gateway_id or self.id

    @property
    def budget_micro_usd(self) -> int | None:
        """The budget of a run there."""
        return micro_usd(self.budget_usd)

    def price_of(self, model: str) -> ModelPrice | None:
        """Find what a model of it costs; None if no price is given."""
        if model in self.prices:
            return self.prices[model]
        if self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            return None
        return ModelPrice(input_usd_per_mtok=self.input_usd_per_mtok, output_usd_per_mtok=self.output_usd_per_mtok)

    @property
    def has_api_key(self) -> bool:
        """Whether an ordinary key is presented to it, rather than grants."""
        return not (self.api_key is None and self.api_key_env is None and self.api_key_file is None)

    @property
    def has_shared_secret(self) -> bool:
        """Whether grants between the two are signed with a secret that both know."""
        return not (self.shared_secret_env is None and self.shared_secret_file is None)

    @property
    def is_trusted(self) -> bool:
        """Whether its grants are taken here."""
        return self.public_key is not None or self.jwks_url is not None or self.has_shared_secret

    @property
    def secret_variables(self) -> frozenset[str]:
        """Names of the environment variables that hold its secrets."""
        return frozenset(name for name in (self.api_key_env, self.shared_secret_env) if name is not None)

    def read_api_key(self, environ: Mapping[str, str]) -> str:
        """Return the ordinary key from where it is kept.

        Raises:
            ConfigurationError: it is not there, or cannot be one.
        """
        key = self._read_secret("key", environ, self.api_key, self.api_key_env, self.api_key_file)
        if not can_be_key(key):
            raise ConfigurationError(f"The key of the peer {self.id} has characters that none can have.")
        return key

    def read_shared_secret(self, environ: Mapping[str, str]) -> str:
        """Return the shared secret from where it is kept.

        Raises:
            ConfigurationError: it is not there, or too short.
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
        secret = secret.strip()  # files, and what is made of them, end with a line break
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
            why = "it is no text"
        raise ConfigurationError(f"The file of the {what} of the peer {self.id} cannot be read: {why}.")
