"""Which agents a peer has, where its list is missing, unreadable or quotes this gateway's credentials."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers import Identity, SigningKey, examine
from a2a_gateway.peers.peer import Peer
from tests.support.raw_endpoint import RawEndpoint, json_response, raw_endpoint, response

pytestmark = pytest.mark.anyio

SECRET = "sk-of-this-gateway-0123456789"
SHARED = "shared-secret-of-two-gateways-0123456789"


@pytest.fixture
async def endpoint() -> AsyncIterator[RawEndpoint]:
    async with raw_endpoint(b"") as running:
        yield running


async def examine_peer(endpoint: RawEndpoint, models: bytes, **settings: object) -> Peer:
    endpoint.models = models
    known = {"id": "p", "base_url": endpoint.base_url, "api_key": SecretStr(SECRET), "opaque": True}
    identity = Identity("near", SigningKey.generate(), SystemClock(), {"SHARED": SHARED})
    return await examine(PeerSettings.model_validate({**known, **settings}), identity)


MISSING = [
    json_response({"error": {"message": "no such route"}}, "404 Not Found"),
    json_response({}, "405 Method Not Allowed"),
    response(b"<html>It works!</html>", kind="text/html"),
    json_response({"data": "many"}),
    json_response({"data": [{"name": "without an id"}]}),
]


@pytest.mark.parametrize("models", MISSING)
async def test_named_models_are_served_where_a_plain_endpoint_keeps_no_list(endpoint: RawEndpoint, models: bytes) -> None:
    peer = await examine_peer(endpoint, models, agents=["b", "a"])
    assert (peer.problem, sorted(peer.profiles)) == (None, ["p/a", "p/b"])


@pytest.mark.parametrize("models", MISSING)
async def test_without_named_models_an_endpoint_without_a_list_has_none(endpoint: RawEndpoint, models: bytes) -> None:
    peer = await examine_peer(endpoint, models)
    assert (peer.problem is None, dict(peer.profiles)) == (False, {})


@pytest.mark.parametrize("models", [json_response({}, "401 Unauthorized"), json_response({}, "503 Service Unavailable"), b""])
async def test_an_endpoint_that_is_down_or_refuses_the_key_is_down(endpoint: RawEndpoint, models: bytes) -> None:
    assert (await examine_peer(endpoint, models, agents=["a"])).problem is not None


async def test_a_gateway_is_asked_for_its_agents_even_where_some_are_named(endpoint: RawEndpoint) -> None:
    settings = {"api_key": None, "shared_secret_env": "SHARED", "opaque": False}
    assert (await examine_peer(endpoint, MISSING[0], agents=["openhands_a"], **settings)).problem is not None


async def test_what_a_peer_quotes_of_its_credential_is_masked_in_its_list_and_its_problem(endpoint: RawEndpoint) -> None:
    peer = await examine_peer(endpoint, json_response({"data": [{"id": SECRET}, {"id": "a", "description": f"By {SECRET}."}]}))
    assert [profile.description for profile in peer.profiles.values()] == ["By <secret-hidden>."]
    settings = {"api_key": None, "shared_secret_env": "SHARED", "opaque": False}
    for broken in (
        f"HTTP/1.1 {SECRET} {SHARED}\r\n\r\n",
        f"{SECRET} {SHARED}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{SECRET}{SHARED}\r\n\r\n",
    ):
        for more in ({}, settings):
            peer = await examine_peer(endpoint, broken.encode(), **more)
            assert peer.problem is not None
            assert (SHARED if more else SECRET) not in peer.problem


async def test_a_price_makes_a_model_one_that_a_budget_can_hold(endpoint: RawEndpoint) -> None:
    models = json_response({"data": [{"id": "a"}, {"id": "b"}]})
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    peer = await examine_peer(endpoint, models, prices={"a": price})
    assert {model: profile.is_priced for model, profile in peer.profiles.items()} == {"p/a": True, "p/b": False}
    assert all(profile.is_priced for profile in (await examine_peer(endpoint, models, reports_cost=True)).profiles.values())
    assert all(profile.is_priced for profile in (await examine_peer(endpoint, models, **price)).profiles.values())
