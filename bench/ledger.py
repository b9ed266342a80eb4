"""Measure the ledger alone: reservations of many writers, and whether many children at once can overspend their parent."""

import asyncio
import random
import time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from a2a_gateway.errors import BudgetExceeded
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.meter import RunMeter
from a2a_gateway.runs.model import CallQuote, ConversationId, KeyId, RunId, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge, RunProposal
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.runs.signal import Signal
from a2a_gateway.runs.write_retries import WriteRetries
from a2a_gateway.stores import Store, open_store, sqlite_url
from bench.figures import Figure, spread
from bench.floors import two_transactions
from bench.stage import Stage
from delegate_tool.protocol.limits import LimitPolicy

_WRITERS: Final = 8
_CHILDREN: Final = 20
_BUDGET_MICRO_USD: Final = 1_000_000
_CALL: Final = CallQuote(2_000, 2_000, Decimal("0.000010"), Decimal("0.000030"))


async def measure_ledger(_: Stage) -> list[Figure]:
    """Reserve and settle for eight runs at once, as in one gateway; then twenty children on one budget, cancelled at random."""
    with TemporaryDirectory(prefix="a2a-bench-ledger-") as home:
        floor = await asyncio.to_thread(two_transactions, Path(home))
        async with open_store(sqlite_url(Path(home) / "gateway.db"), SystemClock()) as store:
            took = await _reserve_and_settle(store)
            overspent = await _storm(store)
    return [
        *spread(f"reserve + settle, {_WRITERS} writers on SQLite", took, floor, p50=200),
        Figure(f"overspent by {_CHILDREN} children with cancel storms", overspent, "micro-USD", 0, samples=_CHILDREN),
    ]


async def _reserve_and_settle(store: Store) -> list[float]:
    key, _ = await store.keys.create_key("bench")
    for number in range(_WRITERS):
        await _open(store, f"writer-{number}", key.id)
    took: list[float] = []

    async def write(number: int) -> None:
        for _ in range(100):
            begin = time.perf_counter()
            hold = await store.ledger.reserve(RunId(f"writer-{number}"), _CALL)
            await store.ledger.settle(hold, Charge(TokenUsage(2_000, 100), 10))
            took.append(time.perf_counter() - begin)
            await asyncio.sleep(0.02)  # an LLM call would take longer

    await asyncio.gather(*map(write, range(_WRITERS)))
    return took


async def _storm(store: Store) -> float:
    key, _ = await store.keys.create_key("storm")
    await _open(store, "parent", key.id)
    for number in range(_CHILDREN):
        await _open(store, f"child-{number}", key.id, "parent")
    settled, chance = Signal(), random.Random(20)
    write_retries = WriteRetries(1.0, on_written=lambda: None)

    async def child(number: int) -> None:
        run_id, presumptions = RunId(f"child-{number}"), Presumptions(store.ledger)
        meter = RunMeter(store.ledger, run_id, SpendCaps(), write_retries, settled, presumptions, patience_s=10)
        while True:
            hold = await meter.reserve(_CALL)
            try:
                await asyncio.sleep(chance.random() / 100)
            finally:  # a cancelled call is charged with all that was reserved for it
                await asyncio.shield(meter.settle(hold, Charge(TokenUsage(2_000, 2_000), hold.reserved_micro_usd)))

    async def stormy(number: int) -> None:
        for _ in range(10):
            task = asyncio.create_task(child(number))
            await asyncio.wait({task}, timeout=chance.random() / 10)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and isinstance(task.exception(), BudgetExceeded):
                return

    await asyncio.gather(*map(stormy, range(_CHILDREN)))
    parent, *_ = await store.ledger.subtree(RunId("parent"))
    return float(max(0, parent.cost_tree_micro_usd + parent.reserved_micro_usd - _BUDGET_MICRO_USD))


async def _open(store: Store, name: str, key_id: KeyId, parent: str | None = None) -> None:
    proposal = RunProposal(
        id=RunId(name),
        parent_id=RunId(parent) if parent else None,
        key_id=key_id,
        agent="openhands_bench",
        task_hash=name,
        conversation_id=ConversationId(name),
        defaults=Limits(max_breadth=_CHILDREN, budget_micro_usd=_BUDGET_MICRO_USD),
        policies=(LimitPolicy(),),
    )
    await store.ledger.open_run(proposal)
