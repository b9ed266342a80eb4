"""Decide which HTTP requests go through a proxy. The one reader of `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.

Requests to this machine never use a proxy: the proxy could not reach the server, and would receive the credential. Libraries
differ in that, and in what they accept in `NO_PROXY`. httpx does not support networks, and raises `InvalidURL` for `[::1]` or
`fe80::/10`, as Docker and Kubernetes write them. Here an entry that cannot be parsed is skipped.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self
from urllib.request import getproxies

import httpx

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = (*_DEFAULT_PORTS, "all")
_THIS_MACHINE: Final = ("all://*localhost", "all://127.0.0.1", "all://[::1]")
_BRACKETED: Final = re.compile(r"\[([^\]]*)\](/\d+)?(?::(\d+))?")
_NAMED: Final = re.compile(r"([^:]*)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class _Bypass:
    """One entry of `NO_PROXY`: hosts, at one port or at every port.

    Attributes:
        hosts: a network, or a name that includes all names below it.
    """

    hosts: IPv4Network | IPv6Network | str
    port: int | None = None

    @classmethod
    def parse(cls, entry: str) -> Self | None:
        """Parse an entry; return None if that is impossible."""
        text = entry.lower().rpartition("://")[2]
        network = _network(text)
        if network is not None:
            return cls(network)
        match = _BRACKETED.fullmatch(text)
        host, port = (match[1] + (match[2] or ""), match[3]) if match else _split_port(text)
        hosts = _network(host) or ("" if match else host.lstrip("*").strip("."))
        return cls(hosts, None if port is None else int(port)) if hosts else None

    def includes(self, host: str, address: IPv4Address | IPv6Address | None, port: int | None) -> bool:
        if self.port not in (None, port):
            return False
        if isinstance(self.hosts, str):
            return host == self.hosts or host.endswith(f".{self.hosts}")
        return address is not None and address in self.hosts

    @property
    def pattern(self) -> str | None:
        """Return the entry as a URL pattern of httpx; None if it is a network or httpx could not parse the pattern."""
        if isinstance(self.hosts, str):
            host = f"*{self.hosts}"
        elif self.hosts.num_addresses == 1:
            host = _in_url(str(self.hosts.network_address))
        else:
            return None
        pattern = f"all://{host}" if self.port is None else f"all://{host}:{self.port}"
        try:
            httpx.URL(pattern)
        except httpx.InvalidURL:
            return None
        return pattern


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """Which proxy requests go through.

    Attributes:
        proxies: proxy URLs by the scheme of the request's URL; `all` is for every other one.
        bypasses: the entries of `NO_PROXY`.
    """

    proxies: Mapping[str, str]
    bypasses: tuple[_Bypass, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment, or the operating system's settings if the environment names no proxy."""
        found = {name.lower(): value.strip() for name, value in getproxies().items()}
        proxies = {name: value if "://" in value else f"http://{value}" for name, value in found.items() if value}
        entries = re.split(r"[\s,]+", found.get("no", ""))
        if "*" in entries:
            return cls({})
        return cls(proxies, tuple(bypass for entry in entries if (bypass := _Bypass.parse(entry)) is not None))

    def proxy_for(self, url: httpx.URL) -> str | None:
        """Return the proxy for a request, or None if it goes to its server directly."""
        proxy = self.proxies.get(url.scheme) or self.proxies.get("all")
        if proxy is None or is_this_machine(url.host):
            return None
        host, address, port = url.host.lower().rstrip("."), _address(url.host), url.port or _DEFAULT_PORTS.get(url.scheme)
        return None if any(each.includes(host, address, port) for each in self.bypasses) else proxy

    def as_httpx_patterns(self) -> dict[str, str | None]:
        """Return the rules as httpx mounts: a proxy, or None, for each URL pattern. Networks cannot be expressed."""
        proxies = {f"{scheme}://": url for scheme, url in self.proxies.items() if scheme in _SCHEMES}
        bypasses = (pattern for each in self.bypasses if (pattern := each.pattern) is not None)
        return proxies | dict.fromkeys((*_THIS_MACHINE, *bypasses)) if proxies else {}


def is_this_machine(host: str) -> bool:
    """Return whether a URL's host names the loopback interface of this machine."""
    name, address = host.lower().rstrip("."), _address(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified  # a connection to 0.0.0.0 also reaches this machine
    return name == "localhost" or name.endswith(".localhost")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is written as. IPv4-mapped IPv6 addresses are unwrapped."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))  # 127.1, as the resolver reads it
        except (OSError, ValueError):
            return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(re.sub("%[^/]*", "", text), strict=False)
    except ValueError:
        return None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _split_port(text: str) -> tuple[str, str | None]:
    match = _NAMED.fullmatch(text)
    return (match[1], match[2]) if match else ("", None)
