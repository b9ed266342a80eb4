"""The list of peers: those of the settings file, and those that were added with `a2a-gateway peer add`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.settings import Settings

log = structlog.get_logger(__name__)


class AddedPeers(Protocol):
    """The store of added peers."""

    async def list_peers(self) -> Sequence[PeerSettings]:
        """Return all added peers.

        Raises:
            ConfigurationError: this release cannot read one of them.
            StoreError: the database does not answer.
        """
        ...


class KnownPeers:
    """The peers by their ids, as of the last time they were read."""

    def __init__(self, settings: Settings, added: AddedPeers) -> None:
        self._settings = settings
        self._added = added
        self._peers: Mapping[str, PeerSettings] = {peer.id: peer for peer in settings.peers}

    @property
    def peers(self) -> Mapping[str, PeerSettings]:
        """All peers. If two have the same id, the one of the settings file counts."""
        return self._peers

    async def reread(self) -> None:
        """Read again which peers have been added or removed.

        Raises:
            StoreError: the database does not answer; the peers stay as they are.
        """
        try:
            added = await self._added.list_peers()
        except ConfigurationError as error:
            log.warning("added_peers_left_as_they_were", reason=error.message)
            return
        usable = {peer.id: peer for peer in added if self._is_usable(peer)}
        self._peers = {**usable, **{peer.id: peer for peer in self._settings.peers}}

    def _is_usable(self, peer: PeerSettings) -> bool:
        try:
            self._settings.check_peer(peer)
        except ValueError as error:
            if peer.id not in self._peers:  # not if the settings file has its id, or if it was usable at the last reading
                log.warning("peer_left_out", peer=peer.id, reason=str(error))
            return False
        return True
