"""Make the HTTP clients of LiteLLM, of the SDK and of MCP choose their proxy by `ProxyRules`, as all other clients here do.

Their own rules send requests for an LLM on this machine, with its key, through the proxy, and httpx raises `InvalidURL` for
networks and brackets in `NO_PROXY`. Three places read the environment: LiteLLM's transport on aiohttp (its default), the httpx
transport that it uses otherwise, and httpx itself in each client without a transport of its own. MCP's clients are made in
threads of the SDK that inherit no context, so httpx's rule is replaced for every client of the process. Pinned to the LiteLLM of
the constraints; `tests/agents/sdk_patches/test_litellm_proxies.py` fails if a version moves a name.
"""

import ssl
from collections.abc import Callable
from typing import Any, Final

import httpx
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import http2_enabled

from a2a_gateway.agents.sdk_patches.patching import Patch
from delegate_tool.http.client import ProxyTransport
from delegate_tool.http.proxies import ProxyRules


def _find_proxy(self: LiteLLMAiohttpTransport, url: httpx.URL) -> str | None:
    origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
    if origin not in self.proxy_cache:
        self.proxy_cache[origin] = ProxyRules.from_environment().proxy_for(url)
    return self.proxy_cache[origin]


def _route(create: Callable[..., Any]) -> "staticmethod[..., Any]":
    def make(ssl_context: ssl.SSLContext | None = None, ssl_verify: bool | None = None, **options: Any) -> Any:
        made = create(ssl_context=ssl_context, ssl_verify=ssl_verify, **options)
        if made is not None:  # on aiohttp, or bound to IPv4 by `litellm.force_ipv4`
            return made
        verify = ssl_context if ssl_context is not None else ssl_verify is not False
        return ProxyTransport(verify=verify, http2=http2_enabled())

    return staticmethod(make)


def _environment_proxies() -> dict[str, str | None]:
    return ProxyRules.from_environment().as_httpx_patterns()


PROXIES: Final = (
    Patch("litellm.llms.custom_httpx.aiohttp_transport:LiteLLMAiohttpTransport", "_proxy_from_env", lambda _: _find_proxy),
    Patch("litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler", "_create_async_transport", _route),
    Patch("httpx._client", "get_environment_proxies", lambda _: _environment_proxies),
)
