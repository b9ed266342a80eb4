"""Typed settings, read once from arguments, environment (`A2A_*`), and `gateway.toml`, in this order of precedence.

Nothing else in the gateway reads the environment, except that the profiles read OpenHands' own variables (`LLM_*`, `OH_*`).
"""

import os
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.llm_settings import LLMSettings
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.settings_errors import describe, location
from delegate_tool.protocol.base_url import parse_base_url
from delegate_tool.protocol.money import parse_usd
from delegate_tool.protocol.text import did_you_mean

_CONFIG_FILE: Final = Path("gateway.toml")

type AgentKeyUse = Literal["refuse", "child", "allow"]

LEAST_KEPT_S: Final = 86_400.0
"""How long every gateway keeps idempotency keys and runs at least, as docs/protocol.md promises to its peers."""
_PREFIX: Final = "A2A_"
_OF_CLIENTS: Final = frozenset({"A2A_BASE_URL", "A2A_API_KEY", "A2A_MODEL"})


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError("This user has no home, which OpenHands needs. Set HOME to a directory of its own.") from None


def _expand(path: Path) -> Path:
    # A shell expands `~`, but neither a settings file nor a container's environment does.
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("the home directory of `~` is unknown") from None


type _Directory = Annotated[Path, AfterValidator(_expand)]
type _FilePath = Annotated[Path, AfterValidator(_expand)]


class Settings(BaseSettings):
    """All settings. Durations end in `_s` (seconds), sizes in their unit, and money is a decimal amount of USD.

    The descriptions are the text of the settings' reference page. A limit of runs is the default of each tree; see
    `delegate_tool.protocol.limits`.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, allow_inf_nan=False)
    config_file: ClassVar[Path | None] = None

    host: str = Field(
        default="127.0.0.1",
        min_length=1,  # an empty host would listen on every address
        description="Address to listen on. Any other than a loopback address requires that a key exists.",
    )
    port: int = Field(default=8420, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    public_url: str | None = Field(
        default=None,
        description="Base URL under which the agents of `a2a-gateway serve` reach it. Default: from `host` and `port`. A gateway "
        "in an application needs none: its agents call it in the process.",
    )
    data_dir: _Directory = Field(
        default_factory=lambda: _home() / ".a2a-gateway",
        description="Directory of keys, runs, conversations and workspaces. Only one gateway at a time can use it.",
    )
    profiles: Annotated[tuple[_Directory, ...], NoDecode] = Field(
        default=(Path("profiles"),), description="Directories of Markdown profiles; in the environment separated by `:`."
    )
    bootstrap_key_file: _FilePath | None = Field(
        default=None,
        description="New file for the key that the first start makes. Default: standard output if that is a terminal, "
        "else `first-key` in `data_dir`.",
    )
    gateway_id: str = Field(
        default="local",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of this gateway in costs and in `X-A2A-Via`. Required if there are peers.",
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the database. Default: an SQLite file in `data_dir`."
    )

    max_depth: int = Field(default=3, ge=0, description="Greatest depth of a tree, inclusive; its root has depth 0.")
    max_breadth: int = Field(default=5, ge=1, description="Live children of one run. More wait, and are then refused with 429.")
    max_runs: int = Field(default=50, ge=0, description="Descendants of the root of a tree.")
    timeout_s: float = Field(default=1800.0, gt=0, le=10**9, description="Duration of a tree.")
    max_turns: int = Field(default=100, ge=1, description="LLM calls of one run.")
    budget_usd: str = Field(default="10", description="Budget of a tree; `none` for no budget.")

    unpriced_usd_per_mtok: Decimal | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="Price of a million tokens whose price is unknown, for budgets. Without it such runs are refused.",
    )

    max_concurrent_runs: int = Field(
        default=100,
        ge=1,
        description="Runs that work at the same time; a run that waits for a child lends it its slot. More are queued.",
    )
    max_queued_runs: int = Field(
        default=200,
        ge=0,
        description="Root runs in the queue; also requests that wait for a conversation, half of them for one. "
        "More are refused with 429.",
    )
    queue_timeout_s: float = Field(
        default=30.0, gt=0, description="How long a request may be queued before it is refused with 429."
    )
    # Without a default: most gateways have one key, and capacity and queue bound its bursts, such as an evaluation.
    max_concurrent_runs_per_key: int | None = Field(
        default=None, ge=1, description="Trees that one key may have under way, for keys without a limit of their own."
    )
    requests_per_minute_per_key: int | None = Field(
        default=None, ge=1, description="Trees that one key may begin within a minute, for keys without a limit of their own."
    )
    body_limit_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1024, description="Size of one request body. A larger one is refused with 413."
    )
    body_memory_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        description="Size of all request bodies that are being received; half of it for one key. "
        "More wait for `queue_timeout_s`, and are then refused with 429.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="Open connections. For a further one the gateway closes the connection that has waited for its client "
        "for the longest time, or refuses the new one with 429.",
    )
    head_timeout_s: float = Field(
        default=20.0, gt=0, description="How long a client may take to send the head of a request; then 408."
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="How long a client may take to send the body of a request, plus a second for each 10 kB received; then 408.",
    )
    heartbeat_s: float = Field(default=15.0, gt=0, description="Silence in a stream after which an empty chunk is sent.")
    disconnect_grace_s: float = Field(
        default=10.0, ge=0, description="How long a run continues without its client before it is cancelled."
    )
    idempotency_ttl_s: float = Field(
        default=86_400.0, description="How long an idempotency key and its answer are kept; at least a day."
    )
    run_retention_s: float = Field(
        default=90 * 86_400.0,
        le=10**9,
        description="How long the record of an ended run is kept; at least a day. Its cost stays in `spend` and in all budgets.",
    )
    journal_bytes: int = Field(
        default=1024 * 1024,
        ge=0,
        description="How much is kept of each run as long as its record, with secrets masked: its task, its answer, its events. "
        "0 keeps none of them.",
    )
    drain_s: float = Field(default=30.0, ge=0, description="How long runs may continue after SIGTERM.")
    conversation_ttl_s: float = Field(
        default=3600.0, ge=0, description="How long a conversation and its workspace are kept after its last use."
    )

    peers: tuple[PeerSettings, ...] = Field(
        default=(), description="Other gateways, and plain endpoints, in addition to those of `a2a-gateway peer add`."
    )
    peer_refresh_s: float = Field(default=30.0, gt=0, description="Interval at which peers are asked for their agents.")

    llms: tuple[LLMSettings, ...] = Field(
        default=(),
        description="LLMs that profiles name in `model`; each is also served as an agent. See [LLMs](../llms.md).",
    )
    llm_timeout_s: float = Field(
        default=120.0, gt=0, description="Duration of one LLM call, and the longest silence within its stream."
    )
    llm_retries: int = Field(default=2, ge=0, description="Retries of one LLM call, or of one request to a plain endpoint.")
    llm_retry_wait_s: float = Field(
        default=1.0,
        ge=0,
        description="Wait before the first retry. `Retry-After` is respected; a 429 that asks for more than 5 s is not retried.",
    )
    agent_key_use: AgentKeyUse = Field(
        default="refuse",
        description="What happens to a request with a key that a process of an agent sends: `refuse` it, "
        "treat it as a `child` of that agent's run, or `allow` it.",
    )
    shell_pool_size: int = Field(default=2, ge=0, description="Shells that are started in advance.")
    log_level: str = Field(
        default="info", pattern=r"^(?i:debug|info|warning|error)$", description="`debug`, `info`, `warning` or `error`."
    )

    @field_validator("idempotency_ttl_s", "run_retention_s")
    @classmethod
    def _check_kept(cls, value: float) -> float:
        # A peer concludes from an unknown idempotency key that its request was never executed, and charges nothing.
        if value < LEAST_KEPT_S:
            raise ValueError(
                f"{value:g} s is less than a day ({LEAST_KEPT_S:g} s), for which peers rely on it. "
                f"Set at least {LEAST_KEPT_S:g}, or leave it out"
            )
        return value

    @field_validator("profiles", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return [item for item in value.split(":") if item] if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return None if value is None else parse_base_url(value)

    @field_validator("budget_usd", mode="before")
    @classmethod
    def _check_budget(cls, value: object) -> str:
        text = str(value).strip().lower()
        if text != "none":
            parse_usd(text)
        return text

    @field_validator("llms")
    @classmethod
    def _check_llms(cls, llms: tuple[LLMSettings, ...]) -> tuple[LLMSettings, ...]:
        names = [llm.name for llm in llms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two entries have the name {twice!r}; rename one")
        return llms

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
        """Check that a peer's ids differ from this gateway's.

        Raises:
            ValueError: they are the same, or this gateway has no id of its own.
        """
        if self.gateway_id in (peer.id, peer.name):
            raise ValueError(f"a peer's id must differ from this gateway's own id, {self.gateway_id!r}")
        if "gateway_id" not in self.model_fields_set:
            raise ValueError("a gateway with peers needs a gateway_id of its own, by which it detects loops of requests")

    @property
    def budget_micro_usd(self) -> int | None:
        """The budget of a tree in micro-USD; None for no budget."""
        return None if self.budget_usd == "none" else parse_usd(self.budget_usd)

    @property
    def unpriced_usd_per_token(self) -> Decimal | None:
        """The price of a token whose price is unknown, in USD."""
        return None if self.unpriced_usd_per_mtok is None else self.unpriced_usd_per_mtok / 1_000_000

    @property
    def profile_dirs(self) -> tuple[Path, ...]:
        """Absolute directories in which Markdown profiles are searched; the first match wins."""
        return tuple(dict.fromkeys(path.expanduser().resolve() for path in (*self.profiles, self.data_dir / "profiles")))

    @property
    def file(self) -> Path:
        """The file that a start with the same options reads, if it exists then."""
        return self.config_file or _CONFIG_FILE

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
        """Create the data directory, accessible to this user only, unless it exists.

        Raises:
            ConfigurationError: it cannot be created.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The data directory {self.data_dir} cannot be created: {error.strerror}. Choose another with --data-dir."
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
    """Read the settings. `overrides` come from the command line and win; those that are None count as not given.

    Raises:
        ConfigurationError: a value is malformed or unknown, or the file cannot be read; the message names each one.
    """
    _home()  # importing the SDK fails without one
    path = config_file if config_file is not None else _CONFIG_FILE
    if config_file is not None and not path.is_file():
        raise ConfigurationError(f"The settings file {path} does not exist.")

    class FileSettings(Settings):
        config_file: ClassVar[Path | None] = path if path.is_file() else None

    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return FileSettings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        faults = [location(fault) for fault in error.errors()]
        names = _variables_in_use(given)
        if path.is_file():
            from_elsewhere = names.keys() | given.keys()
            in_file = [name for name in faults if name and name.partition(".")[0] not in from_elsewhere]
            names = {**names, **{name: f"{path}: {name}" for name in in_file}}
        raise ConfigurationError(
            f"Settings cannot be used: {describe(error, Settings, names=names)}.",
            param=faults[0] or None,
            details={"settings": faults},
        ) from None
    except SettingsError as error:
        name = "llms" if '"llms"' in str(error) else "peers"
        raise ConfigurationError(
            f"A2A_{name.upper()} cannot be read: it is not JSON. Put the {name} into gateway.toml.", param=name
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error}") from None


def _variables_in_use(given: Collection[str]) -> Mapping[str, str]:
    """Return the variables by which settings are set, each by the setting's name; not those that an argument overrides."""
    names = {name.upper() for name, value in os.environ.items() if value}
    variables = {name: _PREFIX + name.upper() for name in Settings.model_fields if name not in given}
    return {name: variable for name, variable in variables.items() if variable in names}


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the names in an environment that look like settings but are not, such as misspelled limits, each with what is wrong.

    They deserve only a warning: other programs set such variables too, as Kubernetes does for a service named `a2a`.
    """
    known = _OF_CLIENTS | {_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in environ if name.upper().startswith(_PREFIX) and name.upper() not in known)
    return {name: f"there is no such setting{did_you_mean(name, known, prefix=_PREFIX)}" for name in unknown}
