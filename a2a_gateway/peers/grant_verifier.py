"""Whose grants are taken here: finds the key of the gateway that a token claims to come from, and reads the token by it.

What the token's bearer may then do is not decided here: its grant and the policy for the peer both narrow, and the ledger
decides in the transaction that opens the run.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from a2a_gateway.errors import AuthenticationError, ConfigurationError, PeerUnavailable
from a2a_gateway.peer_settings import PeerSettings, micro_usd
from a2a_gateway.peers.connection import bounded_client
from a2a_gateway.peers.credential import Identity
from a2a_gateway.peers.grant import Ask, Label, Verifier, decode_token, read_label
from a2a_gateway.peers.known_peers import KnownPeers
from a2a_gateway.peers.signing_key import key_id, load_public_key
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import Grant, SpendCaps
from a2a_gateway.runs.ports import Keys
from a2a_gateway.runs.proposal import Caller
from delegate_tool.protocol.limits import LimitPolicy, limits_of

log = structlog.get_logger(__name__)

_FETCH_WITHIN_S: Final = 5.0
_FETCH_AGAIN_AFTER_S: Final = 10.0
_MOST_KEYS: Final = 20


@dataclass(frozen=True, slots=True)
class Visit:
    """A verified token: who calls, and what it was granted; `Ask` opens no run."""

    peer: PeerSettings
    told: Grant | Ask


class _PublishedKey(BaseModel):
    x: str
    kty: str = ""
    crv: str = ""


class _Published(BaseModel):
    keys: list[_PublishedKey]
    gateway_id: str | None = None


@dataclass(slots=True)
class _Fetched:
    """What a peer has published: its keys by their names. Anybody can ask for a name that is new, so it is asked now and then."""

    keys: Mapping[str, str] = field(default_factory=dict)
    again_at: float = -math.inf
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class GrantVerifier:
    """The peers whose grants are taken. `now` is in seconds, from any origin."""

    def __init__(self, roster: KnownPeers, identity: Identity, *, now: Callable[[], float] = time.monotonic) -> None:
        self._roster = roster
        self._identity = identity
        self._now = now
        self._fetched: dict[str, _Fetched] = {}

    async def caller(self, token: str, keys: Keys) -> Caller:
        """Find out what a token allows its bearer, with the limits that hold here for the peer that has signed it.

        Raises:
            AuthenticationError: see `identify`; or the peer's grants are not taken any more.
        """
        visit = await self.identify(token)
        key = await keys.of_peer(visit.peer.id, *policy_of(visit.peer))
        if isinstance(visit.told, Ask):
            return Caller(key, asks_as=visit.told.issuer)
        return Caller(key, grant=_within(visit.told, micro_usd(visit.peer.accepts.budget_usd)))

    async def identify(self, token: str) -> Visit:
        """Read a token that another gateway presents.

        Raises:
            AuthenticationError: no peer signed it for this gateway, or its time is over.
            StoreError: the database does not answer.
        """
        label = read_label(token)
        known = await self._known(label)
        if known is None:
            await self._roster.reread()  # it may have been added a moment ago, or have another key since
            known = await self._known(label)
        if known is None:
            raise AuthenticationError(
                f"No peer {label.issuer[:64]!r} with this key is known here. `a2a-gateway peer add URL` makes it known."
            )
        peer, verifier = known
        identity = self._identity
        told = decode_token(token, audience=identity.gateway_id, verifier=verifier, now=identity.clock.wall())
        return Visit(peer, told)

    async def _known(self, label: Label) -> tuple[PeerSettings, Verifier] | None:
        for peer in self._roster.peers.values():
            if peer.is_trusted and peer.name == label.issuer and (found := await self._verifier(peer, label)) is not None:
                return peer, found
        return None

    async def _verifier(self, peer: PeerSettings, label: Label) -> Verifier | None:
        """By what a peer's token is verified: always as its settings say, never as the token does."""
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
        """Find a key by its name among those that a peer publishes; they are fetched again, now and then, for one that is new."""
        fetched = self._fetched.setdefault(url, _Fetched())
        if kid not in fetched.keys:
            async with fetched.fetching:
                if kid not in fetched.keys and self._now() >= fetched.again_at:
                    fetched.keys = await _fetch(peer.id, url) or fetched.keys
                    fetched.again_at = self._now() + _FETCH_AGAIN_AFTER_S
        return fetched.keys.get(kid)


def policy_of(peer: PeerSettings) -> tuple[LimitPolicy, SpendCaps, RequestLimits]:
    """What holds here for each run of a peer, and for all of them together; what one run may cost is told by its grant."""
    accepts = peer.accepts
    policy = replace(limits_of(accepts), allowed_agents=accepts.agents)
    total, day, month = accepts.budget_total_usd, accepts.budget_per_day_usd, accepts.budget_per_month_usd
    caps = SpendCaps(micro_usd(total), micro_usd(day), micro_usd(month))
    return policy, caps, RequestLimits(accepts.max_concurrent_runs, accepts.requests_per_minute)


def _within(grant: Grant, most_micro_usd: int | None) -> Grant:
    asked = grant.policy.budget_micro_usd
    if most_micro_usd is None or (asked is not None and asked <= most_micro_usd):
        return grant
    return replace(grant, policy=replace(grant.policy, budget_micro_usd=most_micro_usd))


async def _fetch(peer_id: str, url: str) -> Mapping[str, str]:
    try:
        _, keys = await fetch_keys(url)
    except PeerUnavailable as error:
        log.warning("peer_keys_not_fetched", peer=peer_id, reason=error.message)
        return {}
    return {key_id(key): key for key in keys}


async def fetch_keys(url: str) -> tuple[str | None, list[str]]:
    """Fetch a JSON Web Key Set: the gateway's name for itself, where it tells one, and its Ed25519 keys (base64url).

    Raises:
        PeerUnavailable: there is none.
    """
    try:
        async with asyncio.timeout(_FETCH_WITHIN_S), bounded_client() as http:
            response = await http.get(url)
        published = _Published.model_validate_json(response.raise_for_status().content)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValidationError, ValueError) as error:
        reason = f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else type(error).__name__
        raise PeerUnavailable(f"{url} publishes no keys of a gateway ({reason}).") from None
    found = (key.x for key in published.keys[:_MOST_KEYS] if (key.kty, key.crv) == ("OKP", "Ed25519"))
    return published.gateway_id, [key.rstrip("=") for key in found if _is_key(key)]


def _is_key(text: str) -> bool:
    try:
        load_public_key(text)
    except ValueError:
        return False
    return True
