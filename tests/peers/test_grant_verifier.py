"""Keys that peers publish: fetched from an unknown server, and again when one of them signs with another."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.errors import AuthenticationError, PeerUnavailable
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers import GrantVerifier, Identity, KnownPeers, SigningKey
from a2a_gateway.peers.grant import Ask, Signer, encode_ask
from a2a_gateway.peers.grant_verifier import fetch_keys, policy_of
from a2a_gateway.settings import Settings
from a2a_gateway.testing.serving import serve_app
from tests.peers.added import Added

pytestmark = pytest.mark.anyio

KEY, NEXT = SigningKey.generate(), SigningKey.generate()
P256 = {"kty": "EC", "crv": "P-256", "x": KEY.public_key, "y": KEY.public_key}


@dataclass
class Published:
    """What a peer publishes; `asked` counts the requests."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await Response(self.content, self.status, self.headers)(scope, receive, send)


@asynccontextmanager
async def publish(content: bytes | object, status: int = 200, **headers: str) -> AsyncIterator[tuple[Published, str]]:
    there = Published(content if isinstance(content, bytes) else json.dumps(content).encode(), status, headers)
    async with serve_app(there) as url:
        yield there, f"{url}/jwks.json"


@pytest.mark.parametrize(
    ("content", "status", "headers"),
    [
        (b"<html>It works!</html>", 200, {}),
        (b"", 302, {"location": "file:///etc/passwd"}),
        (b"", 307, {"location": "http://127.0.0.1:9/jwks.json"}),
        (b"[" * 100_000, 200, {}),
        (b'{"keys": [' + b'{"x": "y"},' * 500_000 + b'{"x": "y"}]}', 200, {}),
        ({"keys": "all"}, 200, {}),
        ({"keys": [{"kty": "OKP"}]}, 200, {}),
        (KEY.jwks("desk"), 500, {}),
        (b"\x1f\x8b", 200, {"content-encoding": "gzip"}),
    ],
    ids=["html", "redirect-to-a-file", "redirect", "deep", "huge", "no-list", "no-key", "failure", "packed"],
)
async def test_what_is_no_set_of_keys_is_none_and_leads_nowhere(
    content: bytes | object, status: int, headers: dict[str, str]
) -> None:
    async with publish(content, status, **headers) as (there, url):
        with pytest.raises(PeerUnavailable, match="publishes no keys"):
            await fetch_keys(url)
    assert there.asked == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "no url", "http://127.0.0.1:9/jwks.json", "http://[::1/x"])
async def test_what_cannot_be_fetched_is_an_error_of_one_line(url: str) -> None:
    with pytest.raises(PeerUnavailable, match="publishes no keys"):
        await fetch_keys(url)


async def test_of_a_set_the_keys_that_sign_grants_are_taken_and_the_others_left() -> None:
    odd = [P256, {"kty": "OKP", "crv": "Ed25519", "x": "short"}, {"kty": "OKP", "crv": "X25519", "x": KEY.public_key}]
    signs = {"kty": "OKP", "crv": "Ed25519", "x": f"{KEY.public_key}=", "use": "sig", "alg": "EdDSA", "kid": "of their own"}
    async with publish({"keys": [*odd, signs], "more": "of it"}) as (_, url):
        assert await fetch_keys(url) == (None, [KEY.public_key])


async def test_a_peers_new_key_is_accepted_once_published_and_the_old_one_no_more() -> None:
    clock = SystemClock()
    at = [0.0]

    def token(key: SigningKey) -> str:
        return encode_ask("desk", audience="box", signer=Signer("EdDSA", key.private, key.kid), now=clock.wall())

    async with publish(KEY.jwks("desk")) as (there, url):
        known_peers = KnownPeers(Settings(gateway_id="box", peers=(PeerSettings(id="desk", jwks_url=url),)), Added())
        issuers = GrantVerifier(known_peers, Identity("box", SigningKey.generate(), clock, {}), now=lambda: at[0])
        assert (await issuers.identify(token(KEY))).token == Ask("desk")
        there.content = json.dumps(NEXT.jwks("desk")).encode()
        for _ in range(3):
            with pytest.raises(AuthenticationError):
                await issuers.identify(token(NEXT))
        assert there.asked == 1  # tokens with unknown key ids must not make this gateway fetch all the time
        at[0] += 10
        assert (await issuers.identify(token(NEXT))).token == Ask("desk")
        with pytest.raises(AuthenticationError):
            await issuers.identify(token(KEY))
        at[0] += 10
        there.status = 500  # and what was known stays known
        with pytest.raises(AuthenticationError):
            await issuers.identify(token(KEY))
        assert (await issuers.identify(token(NEXT))).token == Ask("desk")


def test_a_peer_may_run_agents_that_its_settings_name_without_their_prefix() -> None:
    accepts = {"agents": ["lead", "openhands_coder"]}
    peer = PeerSettings.model_validate({"id": "box", "public_key": SigningKey.generate().public_key, "accepts": accepts})
    policy, _, _ = policy_of(peer)
    assert policy.allowed_agents == frozenset({"openhands_lead", "openhands_coder"})
