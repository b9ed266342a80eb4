"""Holds and runs whose caller has gone, or never received them: the ledger releases and closes them."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text

from a2a_gateway.errors import StoreError
from a2a_gateway.runs.model import RunId, RunState
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.stores.database import Database
from tests.stores.ledger_bench import NOW, Bench, SteppedClock
from tests.stores.quotes import calls_of
from tests.support.postgresql import make_postgresql_database

pytestmark = pytest.mark.anyio


async def cancelled_reserve(bench: Bench) -> None:
    reserving = asyncio.create_task(bench.store.ledger.reserve(RunId("root"), calls_of(200)))
    await asyncio.sleep(0)  # its transaction is under way
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving


async def test_a_hold_whose_caller_was_cancelled_is_given_back(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=1_000)
    await cancelled_reserve(bench)
    await the_root_owes_nothing(bench)


async def the_root_owes_nothing(bench: Bench) -> None:
    root = await bench.store.ledger.get_run(RunId("root"))
    assert root is not None
    assert (root.reserved_micro_usd, root.cost_self_micro_usd, root.turns, root.cost_complete) == (0, 0, 0, True)
    assert await bench.store.ledger.mark_lost() == 1
    assert (await bench.store.ledger.get_run(RunId("root"))) == replace(
        root, state=RunState.LOST, stop_reason="run_lost", error_code="run_lost", ended_at=NOW
    )


async def test_a_hold_of_a_cancelled_caller_is_released_once_the_database_works_again(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "gateway.db")
    async with open_store(url, clock := SteppedClock()) as store, Database(url) as beside:
        key, _ = await store.keys.create_key("laptop")
        bench = Bench(store, clock, key, url)
        await bench.running("root", budget_micro_usd=1_000)
        await change(beside, "CREATE TRIGGER stuck BEFORE DELETE ON holds BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        await cancelled_reserve(bench)
        held = await store.ledger.get_run(RunId("root"))
        assert held is not None
        assert held.reserved_micro_usd == 200
        await change(beside, "DROP TRIGGER stuck")
        await store.ledger.forget_expired(NOW)
        await the_root_owes_nothing(bench)


async def test_what_a_server_did_before_its_answer_was_lost_is_undone_later(postgresql: str) -> None:
    async with open_store(url := make_postgresql_database(postgresql), clock := SteppedClock()) as store:
        bench = Bench(store, clock, (await store.keys.create_key("laptop"))[0], url)
        await bench.running("root", budget_micro_usd=1_000)

        def break_off(connection: Connection) -> None:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.commit()
            raw.close()

        for lost in (store.ledger.reserve(RunId("root"), calls_of(200)), bench.open("child", "root")):
            event.listen(Engine, "commit", break_off, once=True)
            with pytest.raises(StoreError):
                await lost
        root, child = await store.ledger.subtree(RunId("root"))
        assert (root.reserved_micro_usd, child.state) == (200, RunState.QUEUED)
        await store.ledger.forget_expired(NOW)
        root, child = await store.ledger.subtree(RunId("root"))
        assert (root.reserved_micro_usd, root.state, child.state) == (0, RunState.RUNNING, RunState.LOST)


async def test_a_hold_that_nobody_has_and_that_was_charged_meanwhile_is_given_back_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "gateway.db")
    async with open_store(url, clock := SteppedClock()) as store, open_store(url, clock) as beside, Database(url) as database:
        bench = Bench(store, clock, (await store.keys.create_key("laptop"))[0], url)
        await bench.running("root", budget_micro_usd=1_000)
        await change(database, "CREATE TRIGGER stuck BEFORE DELETE ON holds BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        await cancelled_reserve(bench)
        await change(database, "DROP TRIGGER stuck")
        await store.ledger.close_run(RunId("root"), RunState.CANCELLED, stop_reason="cancelled")
        await beside.ledger.forget_expired(NOW + 600)
        (charged,) = await store.ledger.subtree(RunId("root"))
        await store.ledger.forget_expired(NOW + 600)
        (root,) = await store.ledger.subtree(RunId("root"))
        assert (charged.cost_self_micro_usd, charged.reserved_micro_usd, charged.cost_complete) == (200, 0, False)
        assert (root.cost_self_micro_usd, root.reserved_micro_usd, root.cost_complete) == (0, 0, True)


async def change(database: Database, statement: str) -> None:
    await database.transaction(lambda connection: connection.execute(text(statement)).close())
