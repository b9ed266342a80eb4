"""A gateway in a company's network or a container: an environment that names a proxy, and what may pass through it."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.testing.script import Step
from delegate_tool.http.client import direct_client
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest, free_port, scripted_gateway
from tests.support.proxy import PROXY_VARIABLES, RecordingProxy
from tests.support.until import until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, RecordingProxy]]:
    """A gateway with a public name and a remote peer, and the proxy that its environment names."""
    port = free_port()
    resolve = socket.getaddrinfo

    def resolve_public_name(host: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve("127.0.0.1" if host in ("gateway.test", b"gateway.test") else host, *args, **kwargs)

    with ExitStack() as stack:
        proxy = stack.enter_context(RecordingProxy.in_thread())
        environ = stack.enter_context(pytest.MonkeyPatch.context())
        environ.setattr(socket, "getaddrinfo", resolve_public_name)
        for name in PROXY_VARIABLES:
            environ.delenv(name, raising=False)
        environ.setenv("ALL_PROXY", proxy.url)
        environ.setenv("NO_PROXY", "[::1],fe80::/10,fd07:b51a:cc66:f0::/64,172.16.0.0/12")
        far = PeerSettings(id="far", base_url="http://peer.test/v1", api_key=SecretStr("sk-peer"))
        settings: dict[str, Any] = {
            "port": port,
            "public_url": f"http://gateway.test:{port}",
            "gateway_id": "near",
            "peers": (far,),
        }
        gateway, _ = stack.enter_context(scripted_gateway(tmp_path_factory.mktemp("near"), **settings))
        yield gateway, proxy


async def test_a_delegation_to_this_gateways_own_name_does_not_use_the_proxy(
    behind_proxy: tuple[GatewayUnderTest, RecordingProxy],
) -> None:
    gateway, proxy = behind_proxy
    child = delegation("openhands_default", "Write seven.", Step(content="Seven."))
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, http_client=direct_client()) as client:
        asked = user("Ask an agent.", Step(tool_calls=(child,)), Step(content="Result: $LAST"))
        completion = await client.chat.completions.create(model="openhands_default", messages=[asked])
    assert "Seven." in (completion.choices[0].message.content or "")
    assert {target for target in proxy.targets if "peer.test" not in target} == set()


async def test_a_peer_elsewhere_is_reached_through_the_proxy(
    behind_proxy: tuple[GatewayUnderTest, RecordingProxy],
) -> None:
    _, proxy = behind_proxy
    await until(lambda: "GET http://peer.test/v1/models" in proxy.targets)
