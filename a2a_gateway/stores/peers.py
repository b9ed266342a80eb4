"""Peers that were added with `a2a-gateway peer add`, beside those of the settings file. Each row holds a peer's settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, delete, insert, select

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.runs.ports import Clock
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.schema import peers

_REMOVE: Final = delete(peers).where(peers.c.id == bindparam("peer_id"))


@dataclass(frozen=True, slots=True)
class SqlPeers:
    """The added peers in a database. They have no secrets: they are authenticated by public keys."""

    database: Database
    clock: Clock

    async def add_peer(self, peer: PeerSettings) -> None:
        """Add a peer, or replace the one with its id.

        Raises:
            ValueError: its settings hold a secret, or name the source of one.
        """
        if peer.has_api_key or peer.has_shared_secret:
            raise ValueError("a peer with a secret belongs into the settings file")
        values = {"id": peer.id, "settings": peer.model_dump_json(exclude_defaults=True), "added_at": self.clock.now()}

        def work(connection: Connection) -> None:
            connection.execute(_REMOVE, {"peer_id": peer.id})
            connection.execute(insert(peers), values)

        await self.database.transaction(work)

    async def remove_peer(self, peer_id: str) -> None:
        """Remove a peer.

        Raises:
            ConfigurationError: no peer with that id was added.
        """

        def work(connection: Connection) -> int:
            return connection.execute(_REMOVE, {"peer_id": peer_id}).rowcount

        if not await self.database.transaction(work):
            raise ConfigurationError(f"No peer {peer_id!r} was added with `peer add`. Those of gateway.toml are removed there.")

    async def list_peers(self) -> Sequence[PeerSettings]:
        """Return all added peers, ordered by id.

        Raises:
            ConfigurationError: a newer release has written one of them.
        """

        def work(connection: Connection) -> Sequence[str]:
            return connection.scalars(select(peers.c.settings).order_by(peers.c.id)).all()

        try:
            return [PeerSettings.model_validate_json(text) for text in await self.database.transaction(work)]
        except ValidationError as error:
            raise ConfigurationError(f"A peer that was added cannot be read: {error.errors()[0]['msg']}.") from None
