"""Typed settings, read once from arguments, environment (`A2A_*`), and `gateway.toml`, in this order of precedence.

Knows no other module of the gateway but the error tree and the settings of a peer. Nothing else reads the environment, apart from
OpenHands' conventional variables (`LLM_*`, `OH_*`), which the profiles read.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerSettings
from delegate_tool.protocol.money import parse_usd

type AgentKeyUse = Literal["refuse", "child", "allow"]

_PREFIX: Final = "A2A_"
_OF_CLIENTS: Final = frozenset({"A2A_BASE_URL", "A2A_API_KEY", "A2A_MODEL"})


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError("This user has no home, which OpenHands needs. Set HOME to a directory of its own.") from None


def _expand(path: Path) -> Path:
    # A shell does so, but nobody else: not a file of settings, nor a container's environment.
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("the home that it begins with is not known") from None


type _Place = Annotated[Path, AfterValidator(_expand)]


class Settings(BaseSettings):
    """All that can be set. Durations end in `_s` (seconds), sizes in their unit, money is a decimal amount of USD."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, allow_inf_nan=False)
    config_file: ClassVar[Path | None] = None

    host: str = Field(
        default="127.0.0.1",
        min_length=1,  # an empty one would be every address
        description="Address to listen on. One that other machines can reach needs a key first.",
    )
    port: int = Field(default=8420, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str | None = Field(
        default=None, description="Base URL under which this gateway's own agents reach it; default is from host and port."
    )
    data_dir: _Place = Field(
        default_factory=lambda: _home() / ".a2a-gateway",
        description="Keys, runs, conversations and workspaces; of one gateway at a time. Default is `~/.a2a-gateway`.",
    )
    profiles: Annotated[tuple[_Place, ...], NoDecode] = Field(
        default=(Path("profiles"),), description="Directories of markdown profiles; in the environment separated by `:`."
    )
    gateway_id: str = Field(
        default="local",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of this gateway in costs and loops; must be set where there are peers.",
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL, such as `postgresql://user@host/name`; default is SQLite in `data_dir`."
    )

    max_depth: int = Field(default=3, ge=0, description="Greatest depth in a tree, inclusive; the root is at 0.")
    max_breadth: int = Field(default=5, ge=1, description="Live children of one run; more wait, then get 429.")
    max_runs: int = Field(default=50, ge=0, description="Descendants of one tree.")
    timeout_s: float = Field(default=1800.0, gt=0, le=10**9, description="Time for one tree.")
    max_turns: int = Field(default=100, ge=1, description="LLM calls of one run.")
    budget_usd: str = Field(default="10", description="What one tree may cost; `none` for no budget.")

    unpriced_usd_per_mtok: Decimal | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="Price at which a million tokens of unknown price count against budgets; without it such runs are refused.",
    )

    max_concurrent_runs: int = Field(default=100, ge=1, description="Runs of the gateway at once; more wait.")
    max_queued_runs: int = Field(
        default=200,
        ge=0,
        description="Runs that wait for a slot; more get 429. Also bounds waits for conversations, half of it those for one.",
    )
    queue_timeout_s: float = Field(default=30.0, gt=0, description="How long a run waits for a slot; then 429.")
    # No limits unless they are set: most gateways have one key, whose bursts (an evaluation, say) the slots and the queue bound.
    max_concurrent_runs_per_key: int | None = Field(
        default=None, ge=1, description="Root runs of one key or peer at once, unless it has a limit of its own; then 429."
    )
    requests_per_minute_per_key: int | None = Field(
        default=None,
        ge=1,
        description="Root runs that one key or peer begins in a minute, unless it has a limit of its own; then 429.",
    )
    body_limit_bytes: int = Field(default=32 * 1024 * 1024, ge=1024, description="Size of one request's body; then 413.")
    body_memory_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        description="Memory for all bodies above 64 kB that are being received, half of it for one key. More wait, then get 429.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="Connections. Beyond it, the one that has waited for its client longest is closed, or the new one gets 429.",
    )
    head_timeout_s: float = Field(
        default=20.0, gt=0, description="How long a client may take to send a request's head; then 408."
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="The same for its body; one second more for each 10 kB that have arrived."
    )
    heartbeat_s: float = Field(default=15.0, gt=0, description="Silence in a stream before an empty chunk is sent.")
    disconnect_grace_s: float = Field(default=10.0, ge=0, description="How long a run waits for its client to come back.")
    idempotency_ttl_s: float = Field(default=86_400.0, gt=0, description="How long an idempotency key, and its answer, are kept.")
    run_retention_s: float = Field(
        # A peer may ask within a day what a run has cost, and "not known" would then mean that it was never executed.
        default=90 * 86_400.0,
        ge=86_400,
        le=10**9,
        description="How long the record of an ended run is kept, at least a day; its cost stays in `spend` and in all budgets.",
    )
    drain_s: float = Field(default=30.0, ge=0, description="How long running runs may continue after SIGTERM.")
    conversation_ttl_s: float = Field(
        default=3600.0, ge=0, description="How long a conversation and its workspace are kept after their last use."
    )

    peers: tuple[PeerSettings, ...] = Field(default=(), description="Other gateways, beside those of `a2a-gateway peer add`.")
    peer_refresh_s: float = Field(default=30.0, gt=0, description="How often peers are asked for their list of agents.")

    llm_timeout_s: float = Field(default=120.0, gt=0, description="One LLM call; also the longest silence within a stream.")
    llm_retries: int = Field(
        default=2,
        ge=0,
        description="Retries of one call to an LLM or a plain endpoint; a 429 that asks for more than 5 s is passed on at once.",
    )
    llm_retry_wait_s: float = Field(
        default=1.0, ge=0, description="Wait before the first retry; a provider's `Retry-After` is respected."
    )
    agent_key_use: AgentKeyUse = Field(
        default="refuse",
        description="If an agent's own process presents a key: `refuse`, make the request a `child` of its run, or `allow`.",
    )
    shell_pool_size: int = Field(default=2, ge=0, description="Shells that are started ahead.")
    log_level: str = Field(
        default="info",
        pattern=r"^(?i:debug|info|warning|error)$",
        description="Least severity that is logged: `debug`, `info`, `warning` or `error`.",
    )

    @field_validator("profiles", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return [item for item in value.split(":") if item] if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("it is not a URL such as http://127.0.0.1:8420")
        return value

    @field_validator("budget_usd", mode="before")
    @classmethod
    def _check_budget(cls, value: object) -> str:
        text = str(value).strip().lower()
        if text != "none":
            parse_usd(text)
        return text

    @model_validator(mode="after")
    def _check_peers(self) -> Self:
        names = [peer.id for peer in self.peers]
        if len(names) != len(set(names)):
            raise ValueError("two peers have the same id")
        issuers = [peer.name for peer in self.peers if peer.is_trusted]
        if len(issuers) != len(set(issuers)):
            raise ValueError("two peers that present grants have the same gateway_id")
        for peer in self.peers:
            self.check_peer(peer)
        return self

    def check_peer(self, peer: PeerSettings) -> None:
        """Check that a peer and this gateway can be told apart.

        Raises:
            ValueError: they cannot.
        """
        if self.gateway_id in (peer.id, peer.name):
            raise ValueError(f"a peer's id may not be this gateway's own, as {peer.id!r} is")
        if "gateway_id" not in self.model_fields_set:
            raise ValueError("peers need a gateway_id of this gateway's own: by it a request that goes in a circle is found")

    @property
    def budget_micro_usd(self) -> int | None:
        """The budget of a tree in micro-USD; None for no budget."""
        return None if self.budget_usd == "none" else parse_usd(self.budget_usd)

    @property
    def unpriced_usd_per_token(self) -> Decimal | None:
        """What a token of unknown price counts, in USD."""
        return None if self.unpriced_usd_per_mtok is None else self.unpriced_usd_per_mtok / 1_000_000

    @property
    def profile_dirs(self) -> tuple[Path, ...]:
        """Where markdown profiles are looked for, first match wins."""
        return (*self.profiles, self.data_dir / "profiles")

    @property
    def own_url(self) -> str:
        """OpenAI base URL under which this gateway's own agents reach it, ending in `/v1`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/").removesuffix("/v1") + "/v1"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return self.host in {"127.0.0.1", "::1", "localhost"} or self.host.startswith("127.")

    def make_data_dir(self) -> None:
        """Make the data directory, for this user alone, if there is none.

        Raises:
            ConfigurationError: it cannot be made.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The data directory {self.data_dir} cannot be made: {error.strerror}. Choose another with --data-dir."
            ) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, toml_file=cls.config_file) if cls.config_file else None
        return (init_settings, env_settings, toml) if toml else (init_settings, env_settings)


def load_settings(config_file: Path | None = None, **overrides: object) -> Settings:
    """Read the settings; `overrides` (from the command line) win, None among them means not given.

    Raises:
        ConfigurationError: a value is malformed or unknown, or the file cannot be read; the message names each one.
    """
    _home()  # the SDK is not even imported without one
    path = config_file if config_file is not None else Path("gateway.toml")
    if config_file is not None and not path.is_file():
        raise ConfigurationError(f"The settings file {path} does not exist.")

    class FileSettings(Settings):
        config_file: ClassVar[Path | None] = path if path.is_file() else None

    try:
        given = {name: value for name, value in overrides.items() if value is not None}
        return FileSettings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        # A fault of the settings together, such as two peers with the same id, is of no field.
        faults = [".".join(map(str, fault["loc"])) for fault in error.errors()]
        raise ConfigurationError(
            f"Settings cannot be used: {worded(error)}.", param=faults[0] or None, details={"settings": faults}
        ) from None
    except SettingsError:
        raise ConfigurationError("A2A_PEERS cannot be read: it is not JSON. Peers are better kept in gateway.toml.") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error}") from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Names in the environment that look like settings and are none, such as misspelled limits.

    No reason not to start: other programs, and Kubernetes for a service named `a2a`, put names there that nobody can help.
    """
    known = _OF_CLIENTS | {_PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in environ if name.upper().startswith(_PREFIX) and name.upper() not in known)


def worded(error: ValidationError) -> str:
    """Say what is wrong with settings, each by its name, in a line."""
    return "; ".join(map(_worded, error.errors()))


def _worded(error: ErrorDetails) -> str:
    said = "there is no such setting" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, (".".join(map(str, error["loc"])), said)))
