"""The database: its files, its migrations, its failures."""

import asyncio
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from a2a_gateway.errors import ConfigurationError, GatewayError, StoreError
from a2a_gateway.runs.journal import JournalEnd
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import Conversation, ConversationId, KeyId, RunId, RunState, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge, RunProposal
from a2a_gateway.stores import SpendBy, SpendLine, migrations, open_store, sqlite_url
from a2a_gateway.stores.database import PATIENCE_S, Database
from a2a_gateway.stores.migrations import newest_revision, upgrade
from a2a_gateway.stores.schema import metadata
from tests.error_texts.texts import pattern_of
from tests.stores.quotes import calls_of
from tests.support.postgresql import make_postgresql_database

pytestmark = pytest.mark.anyio


class FixedClock:
    def now(self) -> float:
        return 1_700_000_000.0

    def wall(self) -> float:
        return self.now()


def root(key_id: KeyId, name: str = "root", parent: str | None = None) -> RunProposal:
    parent_id = RunId(parent) if parent else None
    return RunProposal(RunId(name), parent_id, key_id, "openhands_a", name, ConversationId(name), Limits())


async def test_migrations_lead_to_the_schema(database_url: str) -> None:
    async with Database(database_url) as migrated:
        await migrated.migrate(upgrade)

        def differences(connection: Connection) -> object:
            return compare_metadata(MigrationContext.configure(connection, opts={"compare_server_default": True}), metadata)

        assert await migrated.transaction(differences) == []


async def test_migrations_lead_to_the_same_checks_and_conditions_as_the_schema(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "migrated.db")) as migrated, Database(sqlite_url(tmp_path / "made.db")) as made:
        await migrated.migrate(upgrade)
        await made.transaction(metadata.create_all)

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


def test_the_number_of_the_latest_file_is_the_latest_revision() -> None:
    head = ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head()
    assert head == newest_revision()


def test_a_database_that_needs_no_migration_is_opened_without_alembic(tmp_path: Path) -> None:
    # It costs each start time and memory.
    program = """if True:
        import asyncio, sys
        from a2a_gateway.host.clock import SystemClock
        from a2a_gateway.stores import open_store

        async def open_it():
            async with open_store(sys.argv[1], SystemClock()):
                print("alembic" in sys.modules)

        asyncio.run(open_it())"""
    command_line = [sys.executable, "-c", program, sqlite_url(tmp_path / "gateway.db")]
    assert [subprocess.check_output(command_line, text=True).strip() for _ in range(2)] == ["True", "False"]


def downgrade(connection: Connection, revision: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    command.downgrade(config, revision)


def to_first_schema(connection: Connection) -> None:
    downgrade(connection, "0001")
    # A gateway of then that died in a call:
    connection.execute(text("INSERT INTO holds (id, run_id, reserved_micro_usd, created_at) VALUES ('h', 'child', 0, 1)"))


async def test_what_the_first_schema_held_is_kept_and_counts_against_budgets(database_url: str) -> None:
    async with open_store(database_url, FixedClock()) as store:
        key, _ = await store.keys.create_key("laptop", caps=SpendCaps(total_micro_usd=1_000))
        await store.ledger.open_run(root(key.id))
        await store.ledger.open_run(root(key.id, "child", "root"))
        for run_id, cost in (("root", 100), ("child", 25)):
            hold = await store.ledger.reserve(RunId(run_id), calls_of(200))
            await store.ledger.settle(hold, Charge(TokenUsage(10, 2), cost))
        await store.ledger.close_run(RunId("root"), RunState.CANCELLED, stop_reason="cancelled")
        before = await store.ledger.subtree(RunId("root"))
    async with Database(database_url) as database:
        await database.migrate(to_first_schema)
    async with open_store(database_url, FixedClock()) as store:
        after = await store.ledger.subtree(RunId("root"))
        assert [(run.state, run.usage, run.cost_tree_micro_usd) for run in after] == [
            (run.state, run.usage, run.cost_tree_micro_usd) for run in before
        ]
        assert [run.cost_complete for run in after] == [False, False]
        assert await store.spending.lines(SpendBy.DAY) == [SpendLine("2023-11-14", 2, 20, 4, 125, complete=False)]
        assert (await store.ledger.open_run(root(key.id, "later"))).limits.budget_micro_usd == 1_000 - 125


async def test_runs_from_before_there_were_journals_have_none_and_go_as_others_do(database_url: str) -> None:
    async with open_store(database_url, FixedClock()) as store:
        key, _ = await store.keys.create_key("laptop")
        await store.ledger.open_run(root(key.id))
        conversation = Conversation(ConversationId("c"), key.id, "openhands_a", 1.0, 1.0, 2.0, "/own", "history")
        async with store.conversations.begin(conversation.id):
            await store.conversations.save(conversation)
    async with Database(database_url) as database:
        await database.migrate(lambda connection: downgrade(connection, "0005"))
    async with open_store(database_url, FixedClock()) as store:
        assert await store.journals.get(RunId("root")) is None
        assert [each.workspaces for each in await store.keys.list_keys()] == [()]
        async with store.conversations.lease(conversation.id) as found:
            assert found == conversation
        closed = await store.ledger.close_run(RunId("root"), RunState.FAILED, stop_reason="x", journal=JournalEnd(None, "[]"))
        assert closed.record.state is RunState.FAILED
        assert await store.journals.get(RunId("root")) is None
        assert await store.retention.remove_trees(FixedClock().now()) == 1


@pytest.mark.postgres
async def test_a_postgresql_database_is_of_one_gateway_at_a_time(postgresql: str) -> None:
    url = make_postgresql_database(postgresql)
    impatient = f"{url}&options=-c%20lock_timeout%3D100ms"
    async with open_store(url, FixedClock(), as_gateway=True) as store:
        with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a database of two gateways")) as refusal:
            async with open_store(impatient, FixedClock(), as_gateway=True):
                pass
        assert refusal.value.param == "database_url"
        async with open_store(impatient, FixedClock()) as beside:  # as `keys` and `spend` do
            await beside.keys.create_key("laptop")
        assert [key.name for key in await store.keys.list_keys()] == ["laptop"]
    async with open_store(impatient, FixedClock(), as_gateway=True):
        pass


async def test_an_sqlite_file_is_of_one_gateway_at_a_time_by_whichever_path(tmp_path: Path) -> None:
    url, other = sqlite_url(tmp_path / "gateway.db"), sqlite_url(tmp_path / "alias" / "gateway.db")
    (tmp_path / "alias").symlink_to(tmp_path)
    async with open_store(url, FixedClock(), as_gateway=True) as store:
        with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a database of two gateways")) as refusal:
            async with open_store(other, FixedClock(), as_gateway=True):
                pass
        assert refusal.value.param == "database_url"
        async with open_store(other, FixedClock()) as beside:  # as the command line does
            await beside.keys.create_key("beside")
        assert [key.name for key in await store.keys.list_keys()] == ["beside"]
    async with open_store(other, FixedClock(), as_gateway=True):
        pass


@pytest.mark.postgres
async def test_a_postgresql_cluster_that_was_made_without_a_locale_will_do(postgresql: str) -> None:
    encoding = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    async with open_store(make_postgresql_database(postgresql, encoding), FixedClock(), as_gateway=True) as store:
        await store.keys.create_key("schlüssel")
        assert [key.name for key in await store.keys.list_keys()] == ["schlüssel"]


@pytest.mark.postgres
async def test_a_locked_postgresql_table_is_a_failure_until_it_is_free(postgresql: str) -> None:
    url = f"{make_postgresql_database(postgresql)}&options=-c%20lock_timeout%3D100ms"
    async with open_store(url, FixedClock()) as store, Database(url) as other:
        busy, done = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold_table(connection: Connection) -> None:
            connection.execute(text("LOCK TABLE keys IN ACCESS EXCLUSIVE MODE"))
            loop.call_soon_threadsafe(busy.set)
            done.wait()

        holding = asyncio.create_task(other.transaction(hold_table))
        await busy.wait()
        try:
            with pytest.raises(StoreError, match="55P03"):
                await store.keys.create_key("laptop")
        finally:
            done.set()
            await holding
        await store.keys.create_key("laptop")


@pytest.mark.postgres
async def test_connections_that_the_server_has_closed_are_made_anew(postgresql: str) -> None:
    url = make_postgresql_database(postgresql)
    async with open_store(url, FixedClock()) as store, Database(url) as other:
        await asyncio.gather(*(store.keys.create_key(f"key-{number}") for number in range(8)))
        kill = text(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert await other.transaction(lambda connection: connection.scalar(kill))
        assert len(await store.keys.list_keys()) == 8


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
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a database of a newer release")):
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

        with pytest.raises(GatewayError, match="on second thoughts"):
            await database.transaction(work)
        assert await database.transaction(lambda connection: connection.scalar(text("SELECT count(*) FROM holds"))) == 0


async def test_a_transaction_that_cannot_be_committed_changes_nothing_and_keeps_no_lock(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "gateway.db")) as database, Database(sqlite_url(tmp_path / "gateway.db")) as beside:
        await database.migrate(upgrade)

        def answer_no_run(connection: Connection) -> None:
            connection.execute(text("PRAGMA defer_foreign_keys = ON"))  # looked at when it is committed
            connection.execute(text("INSERT INTO answers VALUES ('no-run', 'x', 0)"))

        with pytest.raises(StoreError, match="SQLITE_CONSTRAINT_FOREIGNKEY"):
            await database.transaction(answer_no_run)
        for one in (beside, database):
            assert await one.transaction(lambda connection: connection.scalar(text("SELECT count(*) FROM answers"))) == 0


async def test_a_failure_names_its_kind_and_neither_statement_nor_path(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"this is no database " * 100)
    with pytest.raises(StoreError) as broken:
        async with open_store(sqlite_url(path), FixedClock()):
            pass
    assert re.fullmatch(pattern_of("store_unavailable: the file is no database"), broken.value.message)
    assert str(tmp_path) not in broken.value.message
    assert "SELECT" not in broken.value.message.upper()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.db",
        "mysql://u:hunter2@h/d",
        "postgresql://u:hunter2@h:port/d",
        "sqlite:////proc/none/gateway.db",
    ],
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
        async with asyncio.timeout(3 * PATIENCE_S):  # one by one they would need 20 times as long as one
            failures = await asyncio.gather(*(store.keys.list_keys() for _ in range(20)), return_exceptions=True)
        other.execute("ROLLBACK")
        other.close()
        assert {type(failure) for failure in failures} == {StoreError}
        assert await store.keys.list_keys() == []
