"""Several writers on one database: threads and processes see one truth."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from a2a_gateway.errors import BudgetExceeded, GatewayError, LLMRateLimited
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import LIVE_STATES, ConversationId, IdempotencyKey, KeyId, RunId, RunState, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge, RunProposal
from a2a_gateway.stores import Store, open_store
from delegate_tool.protocol.limits import LimitPolicy
from tests.stores.quotes import FREE, calls_of
from tests.support.postgresql import make_postgresql_database

pytestmark = pytest.mark.anyio

WRITERS = 8


class FixedClock:
    def now(self) -> float:
        return 1_700_000_000.0

    def wall(self) -> float:
        return self.now()


def proposal(run_id: str, key_id: KeyId, parent_id: str | None = None, policy: LimitPolicy | None = None) -> RunProposal:
    return RunProposal(
        id=RunId(run_id),
        parent_id=RunId(parent_id) if parent_id else None,
        key_id=key_id,
        agent="openhands_a",
        task_hash=run_id,
        conversation_id=ConversationId(run_id),
        defaults=Limits(),
        policies=(policy,) if policy else (),
    )


async def open_many(stack: AsyncExitStack, url: str) -> list[Store]:
    """Open the database once per writer: each has its own connection and thread, and so waits for the others in the database."""
    return [await stack.enter_async_context(open_store(url, FixedClock())) for _ in range(WRITERS)]


async def attempt(store: Store, run_id: str, key_id: KeyId) -> str:
    try:
        await store.ledger.open_run(proposal(run_id, key_id, "root"))
    except GatewayError as error:
        return error.code
    return "admitted"


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        (LimitPolicy(max_breadth=3, max_runs=50), "delegation_breadth_exceeded"),
        (LimitPolicy(max_breadth=50, max_runs=3), "delegation_runs_exhausted"),
    ],
)
async def test_children_opened_at_once_never_exceed_a_limit(database_url: str, policy: LimitPolicy, refusal: str) -> None:
    defaults_allow_more = Limits(max_breadth=50, max_runs=50)
    async with AsyncExitStack() as stack:
        stores = await open_many(stack, database_url)
        key, _ = await stores[0].keys.create_key("laptop")
        root = proposal("root", key.id, policy=policy)
        await stores[0].ledger.open_run(
            RunProposal(root.id, None, key.id, root.agent, "root", root.conversation_id, defaults_allow_more, root.policies)
        )
        outcomes = await asyncio.gather(*(attempt(store, f"child-{n}", key.id) for n, store in enumerate(stores)))
        assert Counter(outcomes) == {"admitted": 3, refusal: WRITERS - 3}
        records = await stores[0].ledger.subtree(RunId("root"))
        assert (len(records), records[0].descendants) == (4, 3)


async def test_turns_settled_at_once_are_all_charged(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = await open_many(stack, database_url)
        key, _ = await stores[0].keys.create_key("laptop")
        await stores[0].ledger.open_run(proposal("root", key.id, policy=LimitPolicy(max_breadth=WRITERS)))
        children = [f"child-{number}" for number in range(5)]
        for child in children:
            await stores[0].ledger.open_run(proposal(child, key.id, "root"))

        async def turns(store: Store, run_id: str) -> None:
            for _ in range(5):
                hold = await store.ledger.reserve(RunId(run_id), FREE)
                await asyncio.gather(*(other.ledger.settle(hold, Charge(TokenUsage(2, 1), 3)) for other in stores[:3]))

        await asyncio.gather(*(turns(store, child) for store, child in zip(stores, children, strict=False)))
        root, *below = await stores[0].ledger.subtree(RunId("root"))
        assert root.cost_tree_micro_usd == 5 * 5 * 3
        assert [(run.turns, run.usage, run.cost_self_micro_usd) for run in below] == [(5, TokenUsage(10, 5), 15)] * 5


@asynccontextmanager
async def two_stores(url: str) -> AsyncIterator[tuple[Store, Store]]:
    async with open_store(url, FixedClock()) as one, open_store(url, FixedClock()) as two:
        yield one, two


@contextmanager
def before_the_first(statement: str, deed: Coroutine[Any, Any, object]) -> Iterator[None]:
    """Have something done by another connection before the first statement that has this in it is executed."""
    loop, to_do = asyncio.get_running_loop(), [deed]

    def do(*args: Any) -> None:
        if statement in args[2] and to_do:
            asyncio.run_coroutine_threadsafe(to_do.pop(), loop).result()

    event.listen(Engine, "before_cursor_execute", do)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", do)
    assert not to_do


async def test_a_call_settled_while_a_profiles_budget_is_read_is_counted(postgresql: str) -> None:
    caps, half = SpendCaps(day_micro_usd=100), calls_of(60)
    async with two_stores(make_postgresql_database(postgresql)) as (one, two):
        key, _ = await one.keys.create_key("laptop")
        for run_id in ("first", "second"):
            await one.ledger.open_run(replace(proposal(run_id, key.id), starts=True))
        hold = await one.ledger.reserve(RunId("first"), half, caps)
        with (
            before_the_first("sum(holds", two.ledger.settle(hold, Charge(TokenUsage(1, 1), 60))),
            pytest.raises(BudgetExceeded),
        ):
            await one.ledger.reserve(RunId("second"), half, caps)


async def test_an_idempotency_key_that_is_free_again_begins_one_run_and_not_two_at_once(postgresql: str) -> None:
    claim, busy = IdempotencyKey("key:k", "mine", "f", FixedClock().now() + 100), LLMRateLimited.code
    async with two_stores(make_postgresql_database(postgresql)) as (one, two):
        key, _ = await one.keys.create_key("laptop")
        first, second, third = (
            replace(proposal(run_id, key.id), idempotency_key=claim, starts=True) for run_id in ("1", "2", "3")
        )
        await one.ledger.open_run(first)
        await one.ledger.close_run(first.id, RunState.FAILED, stop_reason=busy, error_code=busy)
        with before_the_first("DELETE FROM claims", two.ledger.open_run(third)):
            assert (await one.ledger.open_run(second)).id == third.id
        assert [run.id for run in await one.ledger.recent_runs(key.id, 10) if run.state in LIVE_STATES] == [third.id]


OTHER_PROCESS = """
import asyncio, sys
from decimal import Decimal
from a2a_gateway.runs.model import CallQuote, RunId, TokenUsage
from a2a_gateway.runs.ports import Charge
from a2a_gateway.stores import open_store

FREE = CallQuote(0, 0, Decimal(0), Decimal(0))

class FixedClock:
    def now(self):
        return 1_700_000_000.0

    def wall(self):
        return self.now()

async def main(url, turns):
    async with open_store(url, FixedClock()) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(turns):
            hold = await store.ledger.reserve(RunId("root"), FREE)
            await store.ledger.settle(hold, Charge(TokenUsage(1, 1), 1))
        await store.ledger.reserve(RunId("root"), FREE)
        print("in a call", flush=True)
        sys.stdin.readline()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_two_processes_share_a_file_and_one_that_dies_in_a_call_leaves_its_run_lost(database_url: str) -> None:
    async with open_store(database_url, FixedClock()) as store:
        key, _ = await store.keys.create_key("laptop")
        await store.ledger.open_run(proposal("root", key.id))
        other = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            OTHER_PROCESS,
            database_url,
            "30",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            assert await other.stdout.readline() == b"ready\n"
            other.stdin.write(b"go\n")
            for _ in range(30):
                hold = await store.ledger.reserve(RunId("root"), FREE)
                await store.ledger.settle(hold, Charge(TokenUsage(1, 1), 1))
            assert await other.stdout.readline() == b"in a call\n"
        finally:
            other.kill()
            await other.wait()
        run = await store.ledger.get_run(RunId("root"))
        assert run is not None
        assert (run.turns, run.usage, run.cost_tree_micro_usd, run.cost_complete) == (60, TokenUsage(60, 60), 60, True)

        assert await store.ledger.mark_lost() == 1
        run = await store.ledger.get_run(RunId("root"))
        assert run is not None
        assert (run.state, run.cost_complete) == (RunState.LOST, False)
