"""List the agents of all peers. Each peer is asked at the start and then periodically. A peer that is down has no agents."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from a2a_gateway.errors import ConfigurationError, ModelNotFound, StoreError
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers.connection import connect
from a2a_gateway.peers.credential import Identity
from a2a_gateway.peers.known_peers import KnownPeers
from a2a_gateway.peers.models_list import ListedModel, parse_models
from a2a_gateway.peers.peer import NoAnswer, Peer
from a2a_gateway.peers.pricing import TokenPrice
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.model import Profile, ProfileProblem
from delegate_tool.protocol.limits import limits_of
from delegate_tool.protocol.values import MODEL_PREFIX, is_model_id

log = get_log(__name__)

_ASK_WITHIN_S: Final = 5.0
_DESCRIPTION_CHARS: Final = 500
_UNPRINTABLE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class PeerDirectory:
    """The peers and their agents. Use as `async with`. Entering asks each peer once, and starts a task that asks periodically.

    Raises:
        ConfigurationError: a secret that the settings of a peer name is missing.
    """

    def __init__(self, known_peers: KnownPeers, identity: Identity, *, refresh_s: float) -> None:
        self._known_peers = known_peers
        self._identity = identity
        self._refresh_s = refresh_s
        self._peers = {peer.id: _open(peer, identity) for peer in known_peers.peers.values() if peer.base_url is not None}
        self._refreshing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.refresh()
        self._refreshing = asyncio.create_task(self._refresh_often(), name="refresh peers")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        for peer in self._peers.values():
            await peer.client.close()

    def get(self, model: str) -> Profile:
        """Return an agent by the model id under which it is served here: `{peer}/{model}`.

        Raises:
            ModelNotFound: there is no such peer, or it has no such agent.
            PeerUnavailable: the peer is down.
        """
        peer = self.find(model)
        if peer is None:
            raise ModelNotFound(f"There is no model {model[:200]!r}, and no peer of that name.", param="model")
        peer.require()
        profile = peer.profiles.get(model)
        if profile is None:
            raise ModelNotFound(f"The peer {peer.id} has no model {model.partition('/')[2][:200]!r}.", param="model")
        return profile

    def list(self) -> Sequence[Profile]:
        """Return the agents of all peers that are up."""
        up = (peer for peer in self._peers.values() if peer.problem is None)
        return [profile for peer in up for _, profile in sorted(peer.profiles.items())]

    def problems(self) -> Sequence[ProfileProblem]:
        """Return the peers that are down, with the reasons."""
        return [ProfileProblem(f"peer {peer.id}", peer.problem) for peer in self._peers.values() if peer.problem]

    def states(self) -> Mapping[str, str]:
        """Return the state of each peer: `ok`, or the reason why it is down."""
        return {peer.id: peer.problem or "ok" for peer in self._peers.values()}

    def find(self, model: str) -> Peer | None:
        """Return the peer of an agent; None if it was removed."""
        return self._peers.get(model.partition("/")[0])

    def peer(self, peer_id: str) -> Peer:
        """Return a peer by its id.

        Raises:
            ModelNotFound: the peer was removed.
        """
        peer = self._peers.get(peer_id)
        if peer is None:
            raise ModelNotFound(f"There is no peer {peer_id} any more.", param="model")
        return peer

    async def refresh(self) -> None:
        """Read the list of peers again, and ask every peer for its agents."""
        try:
            await self._known_peers.reread()
        except StoreError as error:
            log.warning("peers_not_read", code=error.code)
        await self._update_peers(self._known_peers.peers)
        before = {peer.id: peer.unlisted for peer in self._peers.values()}
        await asyncio.gather(*(_ask(peer) for peer in self._peers.values()))
        for peer in self._peers.values():
            if peer.unlisted not in (None, before[peer.id]):
                log.warning("peer_down", peer=peer.id, reason=peer.unlisted)

    async def _update_peers(self, peers: Mapping[str, PeerSettings]) -> None:
        """Open the peers that are new or changed. Close those that are gone once their last call has ended."""
        gone = [self._peers.pop(peer.id) for peer in list(self._peers.values()) if peers.get(peer.id) != peer.settings]
        for settings in peers.values():
            if settings.base_url is not None and settings.id not in self._peers:
                try:
                    self._peers[settings.id] = _open(settings, self._identity)
                except ConfigurationError as error:
                    log.warning("peer_left_out", peer=settings.id, reason=error.message)
        for peer in gone:
            await peer.close_when_idle()

    async def _refresh_often(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self.refresh()


async def examine(peer: PeerSettings, identity: Identity) -> Peer:
    """Ask a peer once for its agents. Its client is closed when this returns.

    Raises:
        ConfigurationError: a secret that its settings name is missing.
    """
    examined = _open(peer, identity)
    async with examined.client:
        await _ask(examined)
    return examined


def _open(peer: PeerSettings, identity: Identity) -> Peer:
    return Peer(peer, connect(peer.base_url or ""), identity.credential_at(peer))


async def _ask(peer: Peer) -> None:
    try:
        models = await _list_models(peer)
    except NoAnswer as error:
        peer.profiles, peer.unlisted = {}, str(error)
        return
    profiles = [_profile(peer.settings, model) for model in models]
    priced = [(model.id, model.pricing) for model in models if model.pricing is not None]
    peer.listed_prices = {name: TokenPrice(price.prompt, price.completion) for name, price in priced}
    peer.profiles, peer.unlisted = {profile.model: profile for profile in profiles if profile is not None}, None
    peer.breaker.record_success()


async def _list_models(peer: Peer) -> Sequence[ListedModel]:
    """Ask a peer for its models. For a plain endpoint without such a list, return the models that the settings name."""
    try:
        answer = await peer.ask("GET", "/models", within_s=_ASK_WITHIN_S)
        try:
            return parse_models(answer)
        except ValueError as error:
            raise NoAnswer(str(error), is_not_offered=True) from None
    except NoAnswer as error:
        if not (error.is_not_offered and peer.settings.opaque and peer.settings.agents):
            raise
        return [ListedModel(id=name) for name in sorted(peer.settings.agents)]


def _profile(peer: PeerSettings, model: ListedModel) -> Profile | None:
    """Make the profile of a peer's agent; None if it is not served here. The peer's own description is only displayed."""
    if not is_model_id(f"{peer.id}/{model.id}"):
        return None
    # An agent that the peer itself forwards is served here only if the settings name it: it might be this gateway's own.
    is_its_own = peer.opaque or model.id.startswith(MODEL_PREFIX)
    if not (is_its_own if peer.agents is None else model.id in peer.agents):
        return None
    # The description becomes part of the prompt of every agent here that may delegate, so it must be one printable line.
    described = _UNPRINTABLE.sub(" ", model.description or "").strip()[:_DESCRIPTION_CHARS]
    return Profile(
        name=model.id,
        description=described or f"{model.id} at {peer.id}.",
        source=f"peer {peer.id}",
        llm_model=model.id,
        context_tokens=model.context_length,
        vision=True,  # the peer itself refuses images where its model cannot read them
        policy=limits_of(peer),
        is_priced=not peer.opaque or peer.reports_cost or peer.price_of(model.id) is not None,
        peer=peer.id,
    )
