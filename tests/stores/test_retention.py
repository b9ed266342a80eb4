"""Runs that ended long ago: their records go, tree by tree, and no account changes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.journal import JournalEnd, RunJournal
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.model import Grant, IdempotencyKey, RunId, RunState, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge
from a2a_gateway.stores import SpendBy
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.retention import BATCH_ROWS
from a2a_gateway.stores.schema import runs
from delegate_tool.protocol.limits import LimitPolicy
from tests.stores.ledger_bench import NOW, Bench
from tests.stores.quotes import FREE, calls_of

pytestmark = pytest.mark.anyio

DAY = 86_400.0


async def finish(bench: Bench, *run_ids: str, answer: str | None = None) -> None:
    for run_id in run_ids:
        await bench.store.ledger.close_run(RunId(run_id), RunState.FINISHED, stop_reason="finished", answer=answer)


async def tree(bench: Bench, name: str) -> list[str]:
    """Make a tree of three runs that have spent and ended."""
    root, child, grandchild = name, f"{name}-child", f"{name}-grandchild"
    await bench.running(root)
    await bench.running(child, root, "openhands_b")
    await bench.running(grandchild, child, "peer/openhands_c")
    for run_id in (root, child, grandchild):
        await bench.turn(run_id, TokenUsage(10, 1), 5)
    await finish(bench, grandchild, child, root)
    return [root, child, grandchild]


async def remaining(bench: Bench) -> set[str]:
    ledger = bench.store.ledger
    return {run.id for root in await ledger.recent_runs(None, 9_999) for run in await ledger.subtree(root.id)}


async def test_old_trees_go_whole_and_no_account_changes(bench: Bench) -> None:
    caps = SpendCaps(1_000, 100, 500)
    capped = replace(bench, key=(await bench.store.keys.create_key("capped", caps=caps))[0])
    peer = replace(bench, key=await bench.store.keys.of_peer("desk", LimitPolicy(), caps))
    for number, spender in enumerate((bench, capped, peer)):
        await tree(spender, f"old-{number}")
    grant = Grant("desk", "there", "tree", "jti", NOW + DAY, "openhands_a", 0, LimitPolicy())
    await peer.propose("granted", grant=grant, starts=True)
    await finish(peer, "granted")
    bench.clock.at += 10
    recent = await tree(capped, "recent")

    async def accounts() -> list[object]:
        spending, ledger = bench.store.spending, bench.store.ledger
        lines = [await spending.lines(by) for by in SpendBy]
        keys = [(key.name, key.spent_micro_usd) for key in await bench.store.keys.list_keys()]
        budgets = []
        for spender in (bench, capped, peer):
            run_id = f"asks-{len(await ledger.recent_runs(None, 9_999))}-{spender.key.name}"
            await spender.running(run_id)
            summary = await ledger.summary(RunId(run_id), caps)
            assert summary is not None
            budgets.append((summary.remaining_micro_usd, summary.record.limits.budget_micro_usd))
            await finish(spender, run_id)
        return [lines, keys, budgets]

    before = await accounts()
    assert await bench.store.retention.remove_trees(NOW) == 3 * 3 + 1
    assert await accounts() == before
    assert {run_id for run_id in await remaining(bench) if not run_id.startswith("asks")} == set(recent)
    with pytest.raises(GatewayError) as unknown:
        await bench.open("late", "old-0")
    assert unknown.value.code == "run_token_revoked"


async def live_below(bench: Bench) -> None:
    await bench.running("root")
    await bench.running("child", "root")
    await finish(bench, "root")


async def queue_run(bench: Bench) -> None:
    await bench.open("root")


async def leave_run_unbooked(bench: Bench) -> None:
    await bench.running("root")
    await bench.store.ledger.reserve(RunId("root"), FREE)
    await finish(bench, "root")


async def pending_below(bench: Bench) -> None:
    await bench.running("root")
    await bench.running("child", "root", "peer/openhands_a")
    await bench.store.ledger.escrow(RunId("child"))
    await bench.store.ledger.mark_lost()


async def presume_charge(bench: Bench) -> None:
    await bench.running("root")
    await bench.store.ledger.reserve(RunId("root"), calls_of(5))
    await bench.store.ledger.mark_lost()


async def use_idempotency_key(bench: Bench) -> None:
    await bench.propose("root", idempotency_key=IdempotencyKey("key:k", "once", "f", NOW + 2 * DAY), starts=True)
    await finish(bench, "root")


async def keep_answer(bench: Bench) -> None:
    await bench.running("root")
    await bench.running("child", "root")
    await finish(bench, "child", answer="kept for a day")
    await finish(bench, "root")


async def ended_lately(bench: Bench) -> None:
    await bench.running("root")
    await bench.running("child", "root")
    await finish(bench, "root")
    bench.clock.at = NOW + 20
    await finish(bench, "child")


@pytest.mark.parametrize(
    "make",
    [live_below, queue_run, leave_run_unbooked, pending_below, presume_charge, use_idempotency_key, keep_answer, ended_lately],
    ids=lambda make: make.__name__,
)
async def test_a_tree_that_is_still_needed_stays_whole(bench: Bench, make: Callable[[Bench], Awaitable[None]]) -> None:
    old = await tree(bench, "a-old")
    await make(bench)
    younger = await tree(bench, "z-old")
    needed = await remaining(bench) - {*old, *younger}
    assert await bench.store.retention.remove_trees(NOW + 10) == (6 if make is not ended_lately else 3)
    assert await remaining(bench) - {*younger} == needed
    for hold in [hold for _, hold in await bench.store.ledger.list_unreconciled()]:
        await bench.store.ledger.settle(hold, Charge(TokenUsage(1, 1), 3))  # which finds its run


async def test_a_tree_goes_once_it_is_needed_no_more(bench: Bench) -> None:
    await use_idempotency_key(bench)
    assert await bench.store.retention.remove_trees(NOW + 10) == 0
    await bench.store.ledger.forget_expired(NOW + 2 * DAY)
    assert await bench.store.retention.remove_trees(NOW + 10) == 1


async def test_many_old_trees_go_in_batches_and_a_needed_one_among_them_stays(bench: Bench) -> None:
    template = await bench.running("needed")
    trees, below = 400, 3
    rows: list[dict[str, Any]] = []
    for number in range(trees):
        root = f"tree-{number}"
        rows.append(_row(bench, root, None, below))
        rows += [_row(bench, f"{root}-{child}", root, 0) for child in range(below)]

    async with Database(bench.url) as database:
        await database.transaction(lambda connection: connection.execute(insert(runs), rows).close())
    batches: list[int] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if "DELETE FROM runs" in statement:
            batches.append(len(parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert await bench.store.retention.remove_trees(NOW) == trees * (1 + below)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sum(batches) == trees
    assert max(batches) * (1 + below) <= BATCH_ROWS
    assert len(batches) < 10
    assert await remaining(bench) == {template.id}


def _row(bench: Bench, run_id: str, parent_id: str | None, descendants: int) -> dict[str, Any]:
    return {
        "id": run_id,
        "tree_id": run_id.rpartition("-")[0] if parent_id else run_id,
        "parent_id": parent_id,
        "key_id": bench.key.id,
        "agent": "openhands_a",
        "depth": 1 if parent_id else 0,
        "state": "finished",
        "max_depth": 3,
        "max_breadth": 5,
        "max_runs": 50,
        "timeout_s": 1.0,
        "max_turns": 1,
        "deadline_at": NOW,
        "task_hash": run_id,
        "conversation_id": run_id,
        "created_at": NOW - 1,
        "ended_at": NOW - 1,
        "descendants": descendants,
    }


async def test_the_journal_of_a_run_goes_with_its_record(bench: Bench) -> None:
    await bench.propose("kept", task=KeptText("a task\x00", is_truncated=True), starts=True)
    end = JournalEnd("/where", "[]")
    await bench.store.ledger.close_run(RunId("kept"), RunState.FINISHED, stop_reason="finished", journal=end)
    assert await bench.store.journals.get(RunId("kept")) == RunJournal(KeptText("a task\x00", is_truncated=True), "/where", "[]")
    await bench.store.retention.remove_trees(NOW)
    assert await bench.store.journals.get(RunId("kept")) is None
