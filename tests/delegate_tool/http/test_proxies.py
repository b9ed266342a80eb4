"""Which requests go through a proxy: the environment's variables as people write them, and clients on real sockets."""

import httpx
import pytest

from delegate_tool import DelegationStatus, adelegate
from delegate_tool.http.client import direct_client, proxying_client
from delegate_tool.http.proxies import ProxyRules
from tests.delegate_tool.remote_endpoint import Answer, RemoteEndpoint
from tests.support.proxy import PROXY_VARIABLES, RecordingProxy

PROXY = "http://proxy.test:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment that names no proxy."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def proxy_for(url: str) -> str | None:
    return ProxyRules.from_environment().proxy_for(httpx.URL(url))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_each_variable_names_the_proxy_of_its_scheme(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "proxy.test:3128")  # without a scheme, as it is often written
    scheme = name.lower().removesuffix("_proxy")
    schemes = {scheme for scheme in ("http", "https") if proxy_for(f"{scheme}://example.com/v1") == PROXY}
    assert schemes == ({"http", "https"} if scheme == "all" else {scheme})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.10",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "0.0.0.0",
        "[::]",
    ],
)
def test_this_machine_is_never_behind_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    assert proxy_for(f"http://{host}:8420/v1") is None
    assert proxy_for(f"https://{host}/v1") is None


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("*", ["http://example.com", "http://10.0.0.1"], []),
        ("example.com", ["http://example.com", "https://a.example.com"], ["http://example.org", "http://anexample.com"]),
        (".example.com", ["http://example.com", "http://a.b.example.com"], ["http://anexample.com"]),
        ("*.example.com", ["http://a.example.com"], ["http://example.org"]),
        ("Example.COM", ["http://EXAMPLE.com."], []),
        ("example.com:8080", ["http://example.com:8080", "http://a.example.com:8080"], ["http://example.com"]),
        ("example.com:443", ["https://example.com"], ["http://example.com"]),
        ("https://example.com", ["https://example.com"], ["http://example.org"]),
        ("10.0.0.0/8", ["http://10.1.2.3:99", "http://[::ffff:10.1.2.3]"], ["http://11.0.0.1", "http://ten.example"]),
        ("192.168.1.7", ["http://192.168.1.7"], ["http://192.168.1.8"]),
        ("192.168.1.7:80", ["http://192.168.1.7"], ["http://192.168.1.7:81"]),
        ("fd07:b51a:cc66:f0::/64", ["http://[fd07:b51a:cc66:f0::9]"], ["http://[fd07:b51a:cc66:f1::9]"]),
        ("[fd07::]/64", ["http://[fd07::9]"], ["http://[fd08::9]"]),
        ("fe80::/10", ["http://[fe80::1]"], ["http://[2001:db8::1]"]),
        ("[2001:db8::1]", ["http://[2001:db8::1]:9"], ["http://[2001:db8::2]"]),
        ("2001:db8::1", ["http://[2001:db8::1]"], ["http://[2001:db8::2]"]),
        ("[2001:db8::1]:8080", ["http://[2001:db8::1]:8080"], ["http://[2001:db8::1]"]),
        ("a.test,b.test , c.test d.test", ["http://b.test", "http://c.test", "http://d.test"], ["http://e.test"]),
        ("münchen.example", ["http://münchen.example"], ["http://muenchen.example"]),
        (",,[,::,:,]:x,[x]:1,x:y:z,10.0.0.0/99,.,*.,a.test", ["http://a.test"], ["http://b.test", "http://10.0.0.1"]),
    ],
)
def test_no_proxy_is_read_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: list[str], proxied: list[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("no_proxy", no_proxy)
    assert {url: proxy_for(url) for url in (*direct, *proxied)} == {**dict.fromkeys(direct), **dict.fromkeys(proxied, PROXY)}


@pytest.mark.anyio
async def test_a_delegation_to_this_machine_does_not_use_the_proxy(
    endpoint: RemoteEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.plays("worker", Answer())
    with RecordingProxy.in_thread() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "[::1],fe80::/10")
        endpoint.plays("worker", Answer())
    result = await adelegate("worker", "Work.", base_url=endpoint.base_url, api_key="key")
    assert result.status is DelegationStatus.FINISHED
    assert proxy.heads == []


@pytest.mark.anyio
async def test_other_machines_are_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with RecordingProxy.in_thread() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,fd07::/64")
        async with proxying_client() as http:
            assert (await http.get("http://agents.test/v1/models")).status_code == 403
            with pytest.raises(httpx.ProxyError):
                await http.get("https://agents.test/v1/models")
    assert proxy.targets == ["GET http://agents.test/v1/models", "CONNECT agents.test:443"]


@pytest.mark.anyio
async def test_a_gateways_calls_to_itself_use_no_proxy_by_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with RecordingProxy.in_thread() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        async with direct_client() as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("http://gateway.invalid/v1/models")
    assert proxy.heads == []


@pytest.mark.anyio
@pytest.mark.parametrize("proxy", ["socks9://user:secret@proxy.test", "http://user:secret@proxy.test:x"])
async def test_a_proxy_that_is_none_fails_only_what_needs_it(
    endpoint: RemoteEndpoint, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    endpoint.plays("worker", Answer())
    result = await adelegate("worker", "Work.", base_url=endpoint.base_url, api_key="key")
    assert result.status is DelegationStatus.FINISHED
    async with proxying_client() as http:
        with pytest.raises(httpx.ProxyError) as failed:
            await http.get("http://agents.test/v1/models")
    assert "secret" not in str(failed.value)
