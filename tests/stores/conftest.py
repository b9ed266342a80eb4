"""Databases for the store's tests: SQLite in a file, and PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from a2a_gateway.stores import open_store, sqlite_url
from tests.stores.ledger_bench import Bench, SteppedClock
from tests.support.postgresql import make_postgresql_database, required_postgresql, running_postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server; yields the directory of its socket."""
    with running_postgresql(required_postgresql()) as server:
        yield str(server.directory)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "gateway.db")
    return make_postgresql_database(request.getfixturevalue("postgresql"))


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    """A store on either kind of database."""
    clock = SteppedClock()
    async with open_store(database_url, clock) as store:
        key, _ = await store.keys.create_key("laptop")
        yield Bench(store, clock, key, database_url)
