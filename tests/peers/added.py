"""The peers that a command has added, for `KnownPeers` without a store."""

from collections.abc import Sequence

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerSettings


class Added:
    """None at first; `peers` that are None cannot be read."""

    peers: Sequence[PeerSettings] | None = ()

    async def list_peers(self) -> Sequence[PeerSettings]:
        if self.peers is None:
            raise ConfigurationError("A newer release has written it.")
        return self.peers
