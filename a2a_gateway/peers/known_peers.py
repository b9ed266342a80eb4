"""The list of peers: those of the settings file, and those that were added with `a2a-gateway peer add`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.settings import Settings

log = get_log(__name__)


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
        self._of_settings = {peer.id: peer for peer in settings.peers}
        self._peers: Mapping[str, PeerSettings] = self._of_settings
        self._faults: Mapping[str, str] = {}

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
        considered = [peer for peer in added if peer.id not in self._of_settings]
        faults = {peer.id: fault for peer in considered if (fault := self._find_fault(peer)) is not None}
        for peer_id, fault in faults.items():
            if self._faults.get(peer_id) != fault:  # log each fault once, not at every reading
                log.warning("peer_left_out", peer=peer_id, reason=fault)
        self._faults = faults
        self._peers = {**{peer.id: peer for peer in considered if peer.id not in faults}, **self._of_settings}

    def _find_fault(self, peer: PeerSettings) -> str | None:
        """Return why a peer cannot be used; None if it can."""
        try:
            self._settings.check_peer(peer)
        except ValueError as error:
            return str(error)
        return None
