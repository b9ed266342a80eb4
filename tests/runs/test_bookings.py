"""What a run writes into the ledger while others, or a database that fails, stand in its way."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from a2a_gateway.errors import BudgetHeld
from a2a_gateway.runs.events import Failed, Finished
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.meter import RunMeter
from a2a_gateway.runs.model import CallQuote, RunRecord, RunState, SpendCaps
from a2a_gateway.runs.ports import Charge
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.runs.signal import Signal
from a2a_gateway.runs.write_retries import WriteRetries
from a2a_gateway.testing.scripted_runner import Spend, Until
from tests.runs.service_bench import DONE, NOTHING, Bench, bench_of, by_task, end_of, follow
from tests.support.until import until

pytestmark = pytest.mark.anyio


async def test_a_run_that_the_database_will_not_let_end_is_told_at_once_and_recorded_later(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF ended_at ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        end = end_of(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert (end.outcome.error.code, end.summary.record.cost_complete) == ("store_unavailable", False)
        assert bench.leftovers == NOTHING
        assert await bench.state(live) is RunState.RUNNING
        bench.change("DROP TRIGGER stuck")
        await until_ended(bench, live)
        assert await bench.state(live) is RunState.FINISHED


async def test_a_finished_run_is_reported_though_its_last_sums_cannot_be_read(tmp_path: Path) -> None:
    end, go = asyncio.Event(), asyncio.Event()
    async with bench_of(tmp_path, by_task(lead=[Until(end), DONE], part=[Until(go, stubborn=True), DONE])) as bench:
        lead = await bench.start("lead")
        await bench.start("part", lead)
        await until(lambda: len(bench.runner.running) == 2)
        end.set()
        await until_ended(bench, lead)
        aside = bench.database.rename(tmp_path / "aside.db")
        go.set()
        told = end_of(await follow(lead))
        aside.rename(bench.database)
        assert told.outcome == Finished("done")
        assert (told.summary.record.state, told.summary.record.cost_complete) == (RunState.FINISHED, False)


async def test_money_that_the_database_did_not_book_is_booked_later(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), Spend(9), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF turns ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        end = end_of(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert end.outcome.error.code == "store_unavailable"
        bench.change("DROP TRIGGER stuck")
        record = await until(partial(with_turns, bench, live))
        assert (record.cost_self_micro_usd, record.state) == (9, RunState.FAILED)


async def test_a_run_that_the_ledger_no_longer_knows_still_ends(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        live = await bench.start()
        await until(lambda: bool(bench.runner.running))
        bench.change("DELETE FROM runs")
        gate.set()
        async with asyncio.timeout(20):
            end = end_of(await follow(live))
        assert isinstance(end.outcome, Failed)
        assert bench.leftovers == NOTHING


CHEAP_IN_THE_END = 9_000_000
"""What is set aside for a call that then costs less, of the 10 USD of a tree."""


async def with_turns(bench: Bench, live: LiveRun) -> RunRecord | None:
    """Return the record of a run once it has turns."""
    record = await bench.store.ledger.get_run(live.record.id)
    return record if record and record.turns else None


async def until_ended(bench: Bench, live: LiveRun) -> None:
    async def has_ended() -> bool:
        return await bench.state(live) is not RunState.RUNNING

    await until(has_ended)


async def until_held(bench: Bench, lead: LiveRun) -> None:
    async def is_held() -> bool:
        record = await bench.store.ledger.get_run(lead.record.id)
        return record is not None and record.reserved_micro_usd > 0

    await until(is_held)


async def until_refused(bench: Bench, live: LiveRun) -> None:
    """Let the call of a run that begins now be decided on: transactions come one after the other."""
    await until(lambda: live.record.id in bench.runner.running)
    for _ in range(3):
        await bench.state(live)
    assert not live.has_ended


async def test_a_call_waits_for_money_that_others_hold_as_long_as_its_run_may(tmp_path: Path) -> None:
    never, gate = asyncio.Event(), asyncio.Event()
    script = by_task(lead=[Until(never), DONE], rich=[Spend(5, CHEAP_IN_THE_END, gate), DONE], poor=[Spend(1_000_000), DONE])
    async with bench_of(tmp_path, script, queue_timeout_s=0) as bench:
        lead = await bench.start("lead")
        rich = await bench.start("rich", lead)
        await until_held(bench, lead)
        poor = await bench.start("poor", lead)
        await until_refused(bench, poor)
        gate.set()
        for live in (rich, poor):
            assert isinstance(end_of(await follow(live)).outcome, Finished)


async def test_money_that_the_database_gives_back_later_is_there_for_those_who_wait_for_it(tmp_path: Path) -> None:
    never, gate = asyncio.Event(), asyncio.Event()
    script = by_task(lead=[Until(never), DONE], rich=[Spend(5, CHEAP_IN_THE_END, gate)], poor=[Spend(1_000_000), DONE])
    async with bench_of(tmp_path, script) as bench:
        lead = await bench.start("lead")
        rich = await bench.start("rich", lead)
        await until_held(bench, lead)
        poor = await bench.start("poor", lead)
        await until_refused(bench, poor)
        bench.change("CREATE TRIGGER stuck BEFORE DELETE ON holds BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        gate.set()
        assert isinstance(end_of(await follow(rich)).outcome, Failed)
        await until_refused(bench, poor)
        bench.change("DROP TRIGGER stuck")
        async with asyncio.timeout(20):
            assert isinstance(end_of(await follow(poor)).outcome, Finished)


async def test_money_that_is_given_back_without_a_word_is_found_by_those_who_wait_for_it(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(never), DONE]) as bench:
        ledger, run_id = bench.store.ledger, (await bench.start()).record.id
        write_retries = WriteRetries(1.0, on_written=lambda: None)
        meter = RunMeter(
            ledger, run_id, SpendCaps(), write_retries, Signal(), Presumptions(ledger), patience_s=20, look_again_s=0.001
        )
        most = CallQuote(CHEAP_IN_THE_END, 0, Decimal("0.000001"), Decimal(0))
        held = await meter.reserve(most)
        waiting = asyncio.create_task(meter.reserve(most))
        for _ in range(3):
            await ledger.get_run(run_id)
        await ledger.settle(held, Charge(turns=0))
        assert (await waiting).reserved_micro_usd == CHEAP_IN_THE_END
        with pytest.raises(BudgetHeld):
            await replace(meter, patience_s=0).reserve(most)
