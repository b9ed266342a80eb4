"""The store: the ledger of runs and money, keys, conversations, peers. SQLAlchemy Core over SQLite or PostgreSQL.

It implements Protocols of `runs.ports`. `server` and `cli` open it. It knows neither HTTP nor OpenHands.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from a2a_gateway.runs.ports import Clock
from a2a_gateway.settings import Settings
from a2a_gateway.stores.conversations import SqlConversations
from a2a_gateway.stores.database import Database, parse_url, sqlite_url
from a2a_gateway.stores.journals import SqlJournals
from a2a_gateway.stores.keys import SqlKeys
from a2a_gateway.stores.ledger import SqlLedger
from a2a_gateway.stores.migrations import upgrade
from a2a_gateway.stores.peers import SqlPeers
from a2a_gateway.stores.retention import SqlRetention
from a2a_gateway.stores.spending import SpendBy, SpendLine, SqlSpending

__all__ = [
    "SpendBy",
    "SpendLine",
    "SqlConversations",
    "SqlJournals",
    "SqlKeys",
    "SqlLedger",
    "SqlPeers",
    "SqlRetention",
    "SqlSpending",
    "Store",
    "database_kind",
    "open_store",
    "sqlite_url",
    "store_url",
]


def store_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of a gateway's store."""
    return settings.database_url or sqlite_url(settings.data_dir / "gateway.db")


def database_kind(settings: Settings) -> str:
    """Return what kind of database a gateway's store is in, without address and password: `sqlite` or `postgresql`."""
    return parse_url(store_url(settings)).get_backend_name()


@dataclass(frozen=True, slots=True)
class Store:
    """An open store with the newest schema."""

    ledger: SqlLedger
    keys: SqlKeys
    conversations: SqlConversations
    spending: SqlSpending
    peers: SqlPeers
    retention: SqlRetention
    journals: SqlJournals


@asynccontextmanager
async def open_store(url: str, clock: Clock, *, answer_ttl_s: float = 86_400.0, as_gateway: bool = False) -> AsyncIterator[Store]:
    """Open the store at a SQLAlchemy URL (`sqlite_url(path)` makes one for a file), and migrate it to the newest schema.

    Args:
        as_gateway: lock the database against other gateways. A gateway ends the live runs that it finds at its start, and those
            of another gateway must not be among them.

    Raises:
        ConfigurationError: the URL cannot be used, or a newer release has written the database, or another gateway uses it.
        StoreError: the database does not answer.
    """
    async with Database(url) as database:
        if as_gateway:
            await database.keep_gateways_out()
        await database.migrate(upgrade)
        yield Store(
            SqlLedger(database, clock, answer_ttl_s),
            SqlKeys(database, clock),
            SqlConversations(database),
            SqlSpending(database),
            SqlPeers(database, clock),
            SqlRetention(database),
            SqlJournals(database),
        )
