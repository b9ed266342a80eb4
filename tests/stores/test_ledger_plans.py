"""How the ledger finds rows: the number of runs that have ended must cost those that go on nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from a2a_gateway.runs.model import IdempotencyKey, RunId, RunState, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge
from a2a_gateway.stores import open_store, sqlite_url
from tests.stores.ledger_bench import NOW, Bench, SteppedClock
from tests.stores.quotes import calls_of

pytestmark = pytest.mark.anyio


CAPS = SpendCaps(10_000, 10_000, 10_000)
ROOT, CHILD = RunId("root"), RunId("child")


async def lead_a_tree(bench: Bench) -> None:
    """Do once what the ledger does for a run, from its admission to its end and for those who ask afterwards."""
    ledger = bench.store.ledger
    claim = IdempotencyKey("key:k", "once", "f", NOW + 60)
    await ledger.find_run_of_key(claim)
    await bench.propose(ROOT, idempotency_key=claim, caps=CAPS, starts=True)
    await bench.running(CHILD, ROOT)
    await ledger.settle(await ledger.reserve(CHILD, calls_of(5), CAPS), Charge(TokenUsage(1, 1), 5))
    await ledger.settle(await ledger.escrow(CHILD, CAPS), Charge(TokenUsage(1, 1), 5))
    for run_id in (CHILD, ROOT):
        await ledger.close_run(run_id, RunState.FINISHED, stop_reason="finished", answer="kept", caps=CAPS)
    await ledger.get_run_of_key("key:k", "once")
    await ledger.run_of_origin(bench.key.id, "there/run")
    await ledger.answer_of(ROOT)
    await ledger.subtree(ROOT)
    await ledger.recent_runs(bench.key.id, 20)
    await ledger.find_runs(bench.key.id, "0b5d", 2)
    await ledger.forget_expired(NOW)
    await ledger.forget_expired(NOW + 100_000)
    assert await bench.store.retention.remove_trees(NOW) == 2


async def test_no_request_reads_all_runs_claims_or_bills(tmp_path: Path) -> None:
    statements: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        statements[statement] = parameters[0] if many else parameters

    event.listen(Engine, "before_cursor_execute", note)
    try:
        async with open_store(sqlite_url(path := tmp_path / "gateway.db"), clock := SteppedClock()) as store:
            key, secret = await store.keys.create_key("laptop", caps=CAPS)
            statements.clear()
            await store.keys.authenticate(secret)
            await lead_a_tree(Bench(store, clock, key, ""))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(path)) as connection:
        plans = [
            step[3]
            for statement, parameters in statements.items()
            if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert [plan for plan in plans if plan in ("SCAN runs", "SCAN claims", "SCAN spend", "SCAN answers")] == []
    assert any("ix_runs_roots (key_id=?)" in plan for plan in plans)
