"""A client of a running gateway for the command line: HTTP calls with parsed responses, whose errors are `CommandError`s."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Final, Literal, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import BaseModel, ValidationError

from a2a_gateway.cli.command_error import EXIT_USAGE, CommandError, RemoteError
from a2a_gateway.cli.gateway_responses import ListedRun, ProfileListing, RunDetails, RunList
from a2a_gateway.errors import AuthenticationError, ConfigurationError
from a2a_gateway.settings import load_settings
from delegate_tool.http.proxies import ProxyRules
from delegate_tool.http.unreached import explain_certificate
from delegate_tool.protocol.base_url import EXAMPLE, parse_base_url
from delegate_tool.protocol.codes import MALFORMED_RESPONSE, STREAM_BROKEN, TIMEOUT, UNREACHABLE
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.values import can_be_key

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
_MOMENT_S: Final = 3.0
_SILENCE_S: Final = 120.0
"""A gateway sends a heartbeat every 15 s while an agent works, so a longer silence means a broken connection."""


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
                exit_code=EXIT_USAGE,
            )
        self._own_url = own_url
        headers = {"Authorization": f"Bearer {key}"}
        try:
            self.base_url = parse_base_url(base_url)
            url = httpx.URL(self.base_url)
        except (ValueError, httpx.InvalidURL) as error:
            why = error if isinstance(error, ValueError) else f"it is not a URL such as {EXAMPLE}"
            raise CommandError(
                f"The gateway's URL cannot be used: {why}.", "Check --url or A2A_BASE_URL.", exit_code=EXIT_USAGE
            ) from None
        if url.path == "/":  # a gateway's API is below /v1
            self.base_url, url = f"{self.base_url}/v1", url.copy_with(path="/v1")
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

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the gateway has this machine's files: it is the one of the local settings, or has a loopback address."""
        host = self._http.base_url.host
        try:
            is_loopback = host == "localhost" or ip_address(host).is_loopback
        except ValueError:  # a name
            is_loopback = False
        return is_loopback or self.base_url == self._own_url

    def recent_runs(self, limit: int) -> list[ListedRun]:
        """Return the roots of this key's latest trees, newest first."""
        return _parse(RunList, self._call("GET", f"/runs?limit={limit}")).data

    def find_runs(self, id_prefix: str, limit: int) -> list[ListedRun]:
        """Return the runs of this key, at any depth, whose ids begin with a prefix, newest first."""
        return _parse(RunList, self._call("GET", f"/runs?id_prefix={id_prefix}&limit={limit}")).data

    def run_of_key(self, idempotency_key: str) -> ListedRun | None:
        """Return the run that a request with this idempotency key has begun; None if there is none yet."""
        found = _parse(RunList, self._call("GET", f"/runs?idempotency_key={quote(idempotency_key, safe='')}")).data
        return found[0] if found else None

    def details(self, run_id: str) -> RunDetails:
        """Return a run with its task, its answer or its error, where they are kept."""
        return _parse(RunDetails, self._call("GET", f"/runs/{quote(run_id, safe='')}"))

    def tree(self, run_id: str, *, within_s: float | None = None) -> ListedRun:
        """Return a run with all its descendants.

        Args:
            within_s: how long the gateway may wait for its peers' parts of the tree; None leaves that to the gateway.
        """
        query = "" if within_s is None else f"?within_s={within_s:g}"
        return _parse(ListedRun, self._call("GET", f"/runs/{quote(run_id, safe='')}/tree{query}"))

    def events(self, run_id: str) -> Iterator[Mapping[str, object]]:
        """Yield the events of a run from the first on, until it has ended."""
        path = f"/runs/{quote(run_id, safe='')}/events"
        with _connection_errors(self.base_url), self._http.stream("GET", path, timeout=_SILENCE_S) as response:
            if response.is_error:
                response.read()
            _raise_for_error(response)
            yield from read_events(response)

    def profiles(self) -> ProfileListing:
        """Return the profiles that the gateway serves, if it answers at once."""
        with _connection_errors(self.base_url):
            response = self._http.get("/profiles", timeout=_MOMENT_S)
        _raise_for_error(response)
        return _parse(ProfileListing, response.content)

    def cancel(self, run_id: str) -> ListedRun:
        """Cancel a run and all runs below it."""
        return _parse(ListedRun, self._call("POST", f"/runs/{quote(run_id, safe='')}/cancel"))

    def cancel_request(self, idempotency_key: str, *, within_s: float = _ANSWER_S) -> ListedRun:
        """Cancel the run of an idempotency key, whether or not its response has begun, and return it as it ended."""
        headers = {str(Header.IDEMPOTENCY_KEY): idempotency_key}
        return _parse(ListedRun, self._call("POST", "/runs/cancel", headers, within_s=within_s))

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

    def _call(
        self,
        method: Literal["GET", "POST"],
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        within_s: float = _ANSWER_S,
    ) -> bytes:
        with _connection_errors(self.base_url):
            response = self._http.request(method, path, headers=headers, timeout=httpx.Timeout(within_s, connect=_CONNECT_S))
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
            "No API key is given.",
            "Set A2A_API_KEY or pass --key; `a2a-gateway keys create me` makes a key, and prints it.",
            code=AuthenticationError.code,
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
    except OSError as error:
        raise CommandError(
            f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {error.strerror or error.args[0]}.",
            "Set it to a PEM file, or unset it.",
        ) from None
    except (httpx.InvalidURL, ValueError, ImportError):  # their messages would quote the proxy's password
        raise CommandError(
            "The proxy that the environment names cannot be used.", "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."
        ) from None


def not_a_gateway() -> CommandError:
    """Make the error of a response that a gateway would not send."""
    return CommandError("The server's response is not a gateway's.", "Check the URL.", code=MALFORMED_RESPONSE)


def remote_error(body: object, status: int) -> RemoteError:
    """Read an OpenAI error object, from a response's body or from a stream."""
    match body:
        case {"error": {"message": str(message), "code": str(code), **more}}:
            param, details = more.get("param"), more.get("details")
            run_id = details.get("run_id") if isinstance(details, dict) else None
            return RemoteError(
                message,
                code=code,
                status=status,
                param=param if isinstance(param, str) else None,
                run_id=run_id if isinstance(run_id, str) else "",
            )
        case _:
            message = f"The server answered with HTTP {status}, but not with an error of a gateway."
            return RemoteError(message, code=f"http_{status}", status=status)


def read_events(response: httpx.Response) -> Iterator[dict[str, object]]:
    """Yield the JSON objects of a stream of Server-Sent Events, without the `[DONE]` that may end it."""
    try:
        for event in EventSource(response).iter_sse():
            if event.data not in ("", "[DONE]"):
                yield _parse_object(event.data)
    except SSEError:
        raise not_a_gateway() from None


def _parse_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise not_a_gateway()
    return value


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
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
        if (refused := explain_certificate(error)) is not None:
            message, remedy = f"The gateway at {base_url} cannot be trusted, and nothing was sent: {refused}.", ""
        else:
            message = f"No gateway answers at {base_url}."
            remedy = "Start one with `a2a-gateway serve`, or name it with --url or A2A_BASE_URL."
        raise CommandError(message, remedy, code=UNREACHABLE) from None
    except httpx.TimeoutException:
        message = f"The gateway at {base_url} has stopped answering."
        raise CommandError(message, "`a2a-gateway doctor` examines it.", code=TIMEOUT) from None
    except httpx.HTTPError as error:
        message = f"The connection to {base_url} broke: {str(error) or type(error).__name__}."
        raise CommandError(message, "Try again.", code=STREAM_BROKEN) from None


def _parse[M: BaseModel](model: type[M], content: bytes) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise not_a_gateway() from None
