"""The database: its files, its migrations, its failures."""

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from a2a_gateway.errors import ConfigurationError, GatewayError, StoreError
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.stores.database import SQLITE_BUSY_TIMEOUT_S, Database
from a2a_gateway.stores.migrations import upgrade
from a2a_gateway.stores.schema import metadata

pytestmark = pytest.mark.anyio


class FixedClock:
    def now(self) -> float:
        return 1_700_000_000.0


async def test_migrations_lead_to_the_schema(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "migrated.db")) as migrated, Database(sqlite_url(tmp_path / "made.db")) as made:
        await migrated.migrate(upgrade)
        await made.transaction(metadata.create_all)

        def differences(connection: Connection) -> object:
            return compare_metadata(MigrationContext.configure(connection, opts={"compare_server_default": True}), metadata)

        assert await migrated.transaction(differences) == []

        # Alembic does not compare checks, conditions of indexes and keys; SQLite keeps the statement of each, so compare those.
        def definitions(connection: Connection) -> set[tuple[str, frozenset[str]]]:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            parts = {
                name: sql.replace('"', "").replace("\n", " ").replace("\t", " ")
                for name, sql in rows
                if name != "alembic_version"
            }
            return {
                (name, frozenset(" ".join(part.strip(" ()").split()) for part in sql.split(","))) for name, sql in parts.items()
            }

        assert await migrated.transaction(definitions) == await made.transaction(definitions)


async def test_opening_a_store_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "gateway.db")
    async with open_store(url, FixedClock()) as store:
        made, _ = await store.keys.create_key("laptop")
    async with open_store(url, FixedClock()) as store:
        assert await store.keys.list_keys() == [made]


async def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with open_store(sqlite_url(path), FixedClock()):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer"):
        async with open_store(sqlite_url(path), FixedClock()):
            pass


async def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "what?.db"
    async with open_store(sqlite_url(path), FixedClock()) as store:
        await store.keys.create_key("laptop")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"what?.db": 0o600, "what?.db-wal": 0o600, "what?.db-shm": 0o600}
    assert [file.name for file in path.parent.iterdir()] == ["what?.db"]


async def test_a_transaction_that_raises_changes_nothing(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "gateway.db")) as database:
        await database.migrate(upgrade)

        def work(connection: Connection) -> None:
            connection.execute(text("DROP TABLE holds"))
            raise GatewayError("on second thoughts")

        with pytest.raises(GatewayError, match="second thoughts"):
            await database.transaction(work)
        assert await database.transaction(lambda connection: connection.scalar(text("SELECT count(*) FROM holds"))) == 0


async def test_a_failure_names_its_kind_and_neither_statement_nor_path(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"this is no database " * 100)
    with pytest.raises(StoreError) as broken:
        async with open_store(sqlite_url(path), FixedClock()):
            pass
    assert broken.value.message == "The gateway's database failed (SQLITE_NOTADB). Nothing was changed."


@pytest.mark.parametrize(
    "url", ["", "gateway.db", "mysql://u:hunter2@h/d", "postgresql+nodriver://u:hunter2@h/d", "sqlite:////proc/none/gateway.db"]
)
async def test_a_url_that_cannot_be_used_is_a_configuration_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        async with open_store(url, FixedClock()):
            pass
    assert refusal.value.param == "database_url"
    assert "hunter2" not in refusal.value.message


async def test_transactions_that_stand_in_line_for_a_locked_file_wait_together(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with open_store(sqlite_url(path), FixedClock()) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(3 * SQLITE_BUSY_TIMEOUT_S):  # one by one they would need 20 times as long as one
            failures = await asyncio.gather(*(store.keys.list_keys() for _ in range(20)), return_exceptions=True)
        other.execute("ROLLBACK")
        other.close()
        assert {type(failure) for failure in failures} == {StoreError}
        assert await store.keys.list_keys() == []
