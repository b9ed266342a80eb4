"""What a crash would charge for calls under way: recorded seldom, for all of them at once, and bounded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from a2a_gateway.errors import StoreError
from a2a_gateway.runs.model import CallQuote, RunId
from a2a_gateway.runs.ports import Charge, Hold
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.testing.scripted_runner import Until
from tests.runs.service_bench import Bench, bench_of

pytestmark = pytest.mark.anyio


@contextmanager
def transactions() -> Iterator[list[str]]:
    """Note each transaction that is begun."""
    begun: list[str] = []

    def note(_: Any) -> None:
        begun.append("begin")

    event.listen(Engine, "begin", note)
    try:
        yield begun
    finally:
        event.remove(Engine, "begin", note)


async def a_call(bench: Bench, run_id: RunId) -> Hold:
    quote = CallQuote(1_000, 0, Decimal("0.000001"), Decimal(0), sent_micro_usd=100)
    return await bench.store.ledger.reserve(run_id, quote)


async def presumed_after_a_crash(bench: Bench, run_id: RunId) -> int:
    await bench.store.ledger.mark_lost()
    record = await bench.store.ledger.get_run(run_id)
    assert record is not None
    return record.cost_self_micro_usd


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_of(tmp_path, lambda _: [Until(asyncio.Event())]) as opened:
        yield opened


async def test_calls_that_have_grown_are_recorded_in_one_transaction(bench: Bench) -> None:
    run_id = (await bench.start()).record.id
    presumptions, used = Presumptions(bench.store.ledger), {"a": 100, "b": 100, "c": 100}
    for name in used:
        presumptions.follow(await a_call(bench, run_id), lambda name=name: used[name])  # type: ignore[misc]
    with transactions() as begun:
        used |= {"a": 500, "b": 5_000}
        await presumptions.record()
        assert begun == []  # they are new: a short call is never written
        await presumptions.record()
        assert begun == ["begin"]
        used |= {"a": 540, "c": 110}  # not enough to be worth a write
        await presumptions.record()
        assert begun == ["begin"]
    assert await presumed_after_a_crash(bench, run_id) == 500 + 1_000 + 100


async def test_a_call_that_is_settled_is_not_asked_again(bench: Bench) -> None:
    run_id = (await bench.start()).record.id
    presumptions, hold = Presumptions(bench.store.ledger), await a_call(bench, run_id)

    def micro_usd_used() -> int:
        raise AssertionError("the call has ended")

    presumptions.follow(hold, micro_usd_used)
    presumptions.forget(hold)
    await bench.store.ledger.settle(hold, Charge(cost_micro_usd=70))
    for _ in range(2):
        await presumptions.record()
    assert await presumed_after_a_crash(bench, run_id) == 70


async def test_what_a_database_did_not_take_is_recorded_the_next_time(bench: Bench) -> None:
    run_id = (await bench.start()).record.id
    presumptions = Presumptions(bench.store.ledger)
    presumptions.follow(await a_call(bench, run_id), lambda: 600)
    await presumptions.record()
    bench.change("CREATE TRIGGER stuck BEFORE UPDATE ON holds BEGIN SELECT RAISE(ABORT, 'stuck'); END")
    with pytest.raises(StoreError):
        await presumptions.record()
    bench.change("DROP TRIGGER stuck")
    await presumptions.record()
    assert await presumed_after_a_crash(bench, run_id) == 600
