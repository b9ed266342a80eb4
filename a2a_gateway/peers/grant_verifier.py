"""Verify tokens of peers: find the key of the gateway that a token claims to come from, and verify the token with it.

This module does not decide what the token permits. The grant and the policy for the peer both narrow it, and the ledger decides
in the transaction that opens the run.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
from pydantic import BaseModel, ValidationError

from a2a_gateway.errors import AuthenticationError, ConfigurationError, PeerUnavailable
from a2a_gateway.peer_settings import PeerSettings, micro_usd
from a2a_gateway.peers.connection import bounded_client
from a2a_gateway.peers.credential import Identity
from a2a_gateway.peers.grant import Ask, Label, Verifier, decode_token, read_label
from a2a_gateway.peers.known_peers import KnownPeers
from a2a_gateway.peers.signing_key import key_id, load_public_key
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import Grant, SpendCaps
from a2a_gateway.runs.ports import Keys
from a2a_gateway.runs.proposal import Caller
from delegate_tool.http.unreached import explain_certificate
from delegate_tool.protocol.limits import LimitPolicy, limits_of
from delegate_tool.protocol.values import full_model_id

log = get_log(__name__)

_FETCH_WITHIN_S: Final = 5.0
_FETCH_AGAIN_AFTER_S: Final = 10.0
_MOST_KEYS: Final = 20


@dataclass(frozen=True, slots=True)
class Visit:
    """A verified token, with the peer that signed it. An `Ask` opens no run."""

    peer: PeerSettings
    token: Grant | Ask


class _PublishedKey(BaseModel):
    x: str
    kty: str = ""
    crv: str = ""


class _Published(BaseModel):
    keys: list[_PublishedKey]
    gateway_id: str | None = None


@dataclass(slots=True)
class _Fetched:
    """The keys that a peer publishes, by their ids. Any client can cause a fetch by naming an unknown id, so fetches are rare."""

    keys: Mapping[str, str] = field(default_factory=dict)
    again_at: float = -math.inf
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class GrantVerifier:
    """Verifies the tokens of trusted peers. `now` is in seconds, from any origin."""

    def __init__(self, known_peers: KnownPeers, identity: Identity, *, now: Callable[[], float] = time.monotonic) -> None:
        self._known_peers = known_peers
        self._identity = identity
        self._now = now
        self._fetched: dict[str, _Fetched] = {}

    async def caller(self, token: str, keys: Keys) -> Caller:
        """Return the caller that a token authenticates, with the limits for the peer that has signed it.

        Raises:
            AuthenticationError: see `identify`; or the peer's key was revoked.
        """
        visit = await self.identify(token)
        key = await keys.of_peer(visit.peer.id, *policy_of(visit.peer))
        if isinstance(visit.token, Ask):
            return Caller(key, asks_as=visit.token.issuer)
        return Caller(key, grant=_cap_budget(visit.token, micro_usd(visit.peer.accepts.budget_usd)))

    async def identify(self, token: str) -> Visit:
        """Verify a token that another gateway presents.

        Raises:
            AuthenticationError: no peer signed it for this gateway, or it has expired.
            StoreError: the database does not answer.
        """
        label = read_label(token)
        found = await self._find_signer(label)
        if found is None:
            await self._known_peers.reread()  # the peer may have been added a moment ago, or have a new key
            found = await self._find_signer(label)
        if found is None:
            raise AuthenticationError(
                f"No peer {label.issuer[:64]!r} with this key is known here. `a2a-gateway peer add URL` makes it known."
            )
        peer, verifier = found
        identity = self._identity
        return Visit(peer, decode_token(token, audience=identity.gateway_id, verifier=verifier, now=identity.clock.wall()))

    async def _find_signer(self, label: Label) -> tuple[PeerSettings, Verifier] | None:
        for peer in self._known_peers.peers.values():
            if peer.is_trusted and peer.name == label.issuer and (found := await self._verifier(peer, label)) is not None:
                return peer, found
        return None

    async def _verifier(self, peer: PeerSettings, label: Label) -> Verifier | None:
        """Return the key for a peer's tokens. The peer's settings choose the algorithm, never the token."""
        if peer.has_shared_secret:
            try:
                return Verifier("HS256", peer.read_shared_secret(self._identity.environ))
            except ConfigurationError as error:
                log.warning("peer_secret_missing", peer=peer.id, reason=error.message)
                return None
        if peer.public_key is not None and label.kid in (None, key_id(peer.public_key)):
            return Verifier("EdDSA", load_public_key(peer.public_key))
        if peer.jwks_url is not None and label.kid is not None:
            published = await self._published_key(peer, peer.jwks_url, label.kid)
            return None if published is None else Verifier("EdDSA", load_public_key(published))
        return None

    async def _published_key(self, peer: PeerSettings, url: str, kid: str) -> str | None:
        """Return a key that a peer publishes. If its id is unknown, fetch the keys again, but not too often."""
        fetched = self._fetched.setdefault(url, _Fetched())
        if kid not in fetched.keys:
            async with fetched.fetching:
                if kid not in fetched.keys and self._now() >= fetched.again_at:
                    fetched.keys = await _fetch(peer.id, url) or fetched.keys
                    fetched.again_at = self._now() + _FETCH_AGAIN_AFTER_S
        return fetched.keys.get(kid)


def policy_of(peer: PeerSettings) -> tuple[LimitPolicy, SpendCaps, RequestLimits]:
    """Return the limits for each run of a peer, and for all its runs together. A run's budget comes with its grant."""
    accepts = peer.accepts
    agents = None if accepts.agents is None else frozenset(map(full_model_id, accepts.agents))
    policy = replace(limits_of(accepts), allowed_agents=agents)
    total, day, month = accepts.budget_total_usd, accepts.budget_per_day_usd, accepts.budget_per_month_usd
    caps = SpendCaps(micro_usd(total), micro_usd(day), micro_usd(month))
    return policy, caps, RequestLimits(accepts.max_concurrent_runs, accepts.requests_per_minute)


def _cap_budget(grant: Grant, max_micro_usd: int | None) -> Grant:
    asked = grant.policy.budget_micro_usd
    if max_micro_usd is None or (asked is not None and asked <= max_micro_usd):
        return grant
    return replace(grant, policy=replace(grant.policy, budget_micro_usd=max_micro_usd))


async def _fetch(peer_id: str, url: str) -> Mapping[str, str]:
    try:
        _, keys = await fetch_keys(url)
    except PeerUnavailable as error:
        log.warning("peer_keys_not_fetched", peer=peer_id, reason=error.message)
        return {}
    return {key_id(key): key for key in keys}


async def fetch_keys(url: str) -> tuple[str | None, list[str]]:
    """Fetch a JSON Web Key Set. Return the gateway's own id, if it has one, and its Ed25519 keys (base64url).

    Raises:
        PeerUnavailable: the URL has no key set.
    """
    try:
        async with asyncio.timeout(_FETCH_WITHIN_S), bounded_client() as http:
            response = await http.get(url)
        published = _Published.model_validate_json(response.raise_for_status().content)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValidationError, ValueError) as error:
        raise PeerUnavailable(f"{url} publishes no keys of a gateway: {_why_no_keys(error)}.") from None
    found = (key.x for key in published.keys[:_MOST_KEYS] if (key.kty, key.crv) == ("OKP", "Ed25519"))
    return published.gateway_id, [key.rstrip("=") for key in found if _is_key(key)]


def _why_no_keys(error: Exception) -> str:
    match error:
        case httpx.HTTPStatusError():
            return f"it answers HTTP {error.response.status_code}"
        case httpx.TransportError() | TimeoutError():
            return explain_certificate(error) or f"it cannot be reached ({type(error).__name__})"
        case _:
            return "its response has another form"


def _is_key(text: str) -> bool:
    try:
        load_public_key(text)
    except ValueError:
        return False
    return True
