"""What a run writes into the ledger while others, or a database that fails, stand in its way."""

import asyncio
from pathlib import Path

import pytest

from a2a_gateway.runs.events import Failed
from a2a_gateway.runs.model import RunState
from a2a_gateway.testing.scripted_runner import Spend, Until
from tests.runs.service_bench import DONE, NOTHING, bench_of, finished, follow, until

pytestmark = pytest.mark.anyio


async def test_a_run_that_the_database_will_not_let_end_is_told_at_once_and_recorded_later(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF ended_at ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        end = finished(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert (end.outcome.error.code, end.summary.record.cost_complete) == ("store_unavailable", False)
        assert bench.leftovers == NOTHING
        assert await bench.state(live) is RunState.RUNNING
        bench.change("DROP TRIGGER stuck")
        while await bench.state(live) is RunState.RUNNING:
            pass
        assert await bench.state(live) is RunState.FINISHED


async def test_money_that_the_database_did_not_book_is_booked_later(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), Spend(9), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF turns ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        end = finished(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert end.outcome.error.code == "store_unavailable"
        bench.change("DROP TRIGGER stuck")
        while not (record := await bench.store.ledger.get_run(live.record.id)) or not record.turns:
            pass
        assert (record.cost_self_micro_usd, record.state) == (9, RunState.FAILED)


async def test_a_run_that_the_ledger_no_longer_knows_still_ends(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("DELETE FROM runs")
        gate.set()
        async with asyncio.timeout(20):
            end = finished(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert bench.leftovers == NOTHING
