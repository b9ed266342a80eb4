"""HTTP clients for `openai` that use a proxy only where `proxies` names one. Imports neither the SDK nor the gateway."""

from types import TracebackType
from typing import Any, Final, Self

import httpx
from openai import DEFAULT_CONNECTION_LIMITS, DefaultAsyncHttpxClient

from delegate_tool.http.proxies import ProxyRules

_BAD_PROXY: Final = "The proxy that the environment names cannot be used: check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."


class ProxyTransport(httpx.AsyncBaseTransport):
    """Sends each request directly or through the proxy that `ProxyRules` names for its URL.

    Given to a client as its transport, it also keeps httpx from reading `NO_PROXY` itself.

    Args:
        rules: default is to read the environment.
        options: of each `httpx.AsyncHTTPTransport` that is made.
    """

    def __init__(self, rules: ProxyRules | None = None, **options: Any) -> None:
        self._rules = ProxyRules.from_environment() if rules is None else rules
        self._options = options
        self._direct = httpx.AsyncHTTPTransport(**options)
        self._proxies: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            httpx.ProxyError: the environment names a proxy that cannot be used.
        """
        proxy = self._rules.proxy_for(request.url)
        return await (self._direct if proxy is None else self._through(proxy)).handle_async_request(request)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in (self._direct, *self._proxies.values()):
            await transport.aclose()

    def _through(self, proxy: str) -> httpx.AsyncHTTPTransport:
        # Made at its first use: a malformed proxy URL fails the requests that need the proxy, not the start of the program.
        if proxy not in self._proxies:
            try:
                self._proxies[proxy] = httpx.AsyncHTTPTransport(proxy=proxy, **self._options)
            except (httpx.InvalidURL, ValueError, ImportError):  # their messages would quote the proxy's password
                raise httpx.ProxyError(_BAD_PROXY) from None
        return self._proxies[proxy]


def proxying_client(**options: Any) -> httpx.AsyncClient:
    """Make a client that follows the environment's proxy settings; the caller closes it."""
    return DefaultAsyncHttpxClient(transport=ProxyTransport(limits=DEFAULT_CONNECTION_LIMITS), **options)


def direct_client(transport: httpx.AsyncBaseTransport | None = None, **options: Any) -> httpx.AsyncClient:
    """Make a client that uses no proxy, for a gateway's calls to itself under any host name; the caller closes it."""
    transport = transport or httpx.AsyncHTTPTransport(limits=DEFAULT_CONNECTION_LIMITS)
    return DefaultAsyncHttpxClient(transport=transport, **options)
