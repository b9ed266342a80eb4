"""A client of a running gateway for the command line: HTTP calls with parsed responses, whose errors are `CommandError`s."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, Self
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from a2a_gateway.cli.command_error import CommandError, RemoteError
from a2a_gateway.errors import ConfigurationError
from a2a_gateway.settings import load_settings
from delegate_tool.http.proxies import ProxyRules
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.values import can_be_key

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
_MOMENT_S: Final = 3.0
_SILENCE_S: Final = 120.0
"""A gateway sends a heartbeat every 15 s while an agent works, so a longer silence means a broken connection."""


class TokenCounts(BaseModel):
    prompt: int
    completion: int


class RunCost(BaseModel):
    """Decimal amounts of USD; `tree` includes all descendants, `reserved` is set aside for calls under way."""

    self: str
    tree: str
    reserved: str = "0.000000"
    complete: bool


class RunLimits(BaseModel):
    model_config = ConfigDict(extra="allow")

    max_depth: int


class ListedRun(BaseModel):
    """A run as the gateway reports it, with the runs below it. Members that are not declared here are kept for `--json`."""

    model_config = ConfigDict(extra="allow")

    id: str
    agent: str
    depth: int
    state: str
    created_at: str
    seconds: float
    turns: int
    tokens: TokenCounts
    cost: RunCost
    descendants: int
    limits: RunLimits
    stop_reason: str | None = None
    error_code: str | None = None
    gateway: str | None = None
    unreachable: str | None = None
    children: tuple["ListedRun", ...] = ()


class ListedProfile(BaseModel):
    """A profile as its operator sees it. Members that are not declared here are kept for `--json`."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    description: str
    capabilities: dict[str, object]
    limits: dict[str, object]
    llm: str
    priced: bool
    has_budget: bool
    mcp_servers: list[str]
    source: str

    @property
    def tools(self) -> list[str]:
        """The names of its tools, and of its MCP servers as `mcp:NAME`."""
        tools = self.capabilities.get("tools")
        return [*(map(str, tools) if isinstance(tools, list) else ()), *(f"mcp:{name}" for name in self.mcp_servers)]


class ListedProblem(BaseModel):
    """What is wrong with a profile, and where."""

    path: str
    line: int | None
    message: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        """Render it as compilers do: path, line, message."""
        where = f"{self.path}{f':{self.line}' if self.line else ''}"
        return f"{where}: {'warning: ' if self.severity == 'warning' else ''}{self.message}"


class ProfileListing(BaseModel):
    """The profiles that can be used, and what is wrong with these and with others."""

    data: list[ListedProfile]
    problems: list[ListedProblem]
    directories: list[str]


class _RunList(BaseModel):
    data: list[ListedRun]


class RemoteGateway:
    """A client of one gateway; use as a context manager.

    Args:
        own_url: the URL of the gateway that the local settings describe. It is called without a proxy, also by a public name.
    """

    def __init__(self, base_url: str, key: str, *, own_url: str | None = None) -> None:
        if not can_be_key(key):
            raise CommandError(
                "The API key has characters that an API key cannot have, such as spaces.",
                "Check A2A_API_KEY or --key.",
                exit_code=2,
            )
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"}
        try:
            url = httpx.URL(self.base_url)
        except (httpx.InvalidURL, UnicodeError):
            raise CommandError(f"{base_url!r} is not a URL.", "Give one such as http://127.0.0.1:8420/v1.", exit_code=2) from None
        self._http = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            transport=_transport(None if self.base_url == own_url else ProxyRules.from_environment().proxy_for(url)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def recent_runs(self, limit: int) -> list[ListedRun]:
        """Return the roots of this key's latest trees, newest first."""
        return _parse(_RunList, self._call("GET", f"/runs?limit={limit}")).data

    def profiles(self) -> ProfileListing:
        """Return the profiles that the gateway serves, if it answers at once."""
        with _connection_errors(self.base_url):
            response = self._http.get("/profiles", timeout=_MOMENT_S)
        _raise_for_error(response)
        return _parse(ProfileListing, response.content)

    def tree(self, run_id: str) -> ListedRun:
        """Return a run with all its descendants."""
        return _parse(ListedRun, self._call("GET", f"/runs/{quote(run_id, safe='')}/tree"))

    def cancel(self, run_id: str) -> ListedRun:
        """Cancel a run and all runs below it."""
        return _parse(ListedRun, self._call("POST", f"/runs/{quote(run_id, safe='')}/cancel"))

    def cancel_request(self, idempotency_key: str) -> None:
        """Cancel the run of an idempotency key, whether or not its response has begun."""
        self._call("POST", "/runs/cancel", {Header.IDEMPOTENCY_KEY: idempotency_key})

    @contextmanager
    def stream(self, body: Mapping[str, object], headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Post a chat request. Leaving the context before the stream has ended closes the connection."""
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        with (
            _connection_errors(self.base_url),
            self._http.stream("POST", "/chat/completions", json=body, headers=dict(headers), timeout=timeout) as response,
        ):
            if response.is_error:
                response.read()
            _raise_for_error(response)
            yield response

    def _call(self, method: Literal["GET", "POST"], path: str, headers: Mapping[str, str] | None = None) -> bytes:
        with _connection_errors(self.base_url):
            response = self._http.request(method, path, headers=headers)
        _raise_for_error(response)
        return response.content


def connect(url: str | None, key: str | None) -> RemoteGateway:
    """Make a client for the gateway at `url`, or the one that the local settings describe.

    Raises:
        CommandError: there is no key.
        ConfigurationError: no URL is given, and the settings cannot be used.
    """
    key = (key or "").strip()
    if not key:
        raise CommandError(
            "No API key is given.", "Set A2A_API_KEY or pass --key; `a2a-gateway keys create me` makes a key, and prints it."
        )
    try:
        own_url = load_settings().own_url
    except ConfigurationError:
        if url is None:
            raise
        own_url = None
    return RemoteGateway(url or own_url or "", key, own_url=own_url)


def _transport(proxy: str | None) -> httpx.HTTPTransport:
    try:
        return httpx.HTTPTransport(proxy=proxy)
    except (httpx.InvalidURL, ValueError, ImportError):  # their messages would quote the proxy's password
        raise CommandError(
            "The proxy that the environment names cannot be used.", "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."
        ) from None


def not_a_gateway() -> CommandError:
    """Make the error of a response that a gateway would not send."""
    return CommandError("The server's response is not a gateway's.", "Check the URL.")


def remote_error(body: object, status: int) -> RemoteError:
    """Read an OpenAI error object, from a response's body or from a stream."""
    match body:
        case {"error": {"message": str(message), "code": str(code)}}:
            return RemoteError(message, code=code, status=status)
        case _:
            return RemoteError(
                f"The server answered with HTTP {status}, but not with an error of a gateway.", code="", status=status
            )


def _raise_for_error(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        body = response.json()
    except ValueError:
        body = None
    raise remote_error(body, response.status_code)


@contextmanager
def _connection_errors(base_url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol):
        raise CommandError(
            f"No gateway answers at {base_url}.", "Start one with `a2a-gateway serve`, or name it with --url or A2A_BASE_URL."
        ) from None
    except httpx.TimeoutException:
        raise CommandError(f"The gateway at {base_url} has stopped answering.", "`a2a-gateway doctor` examines it.") from None
    except httpx.HTTPError as error:
        raise CommandError(f"The connection to {base_url} broke: {str(error) or type(error).__name__}.", "Try again.") from None


def _parse[M: BaseModel](model: type[M], content: bytes) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise not_a_gateway() from None
