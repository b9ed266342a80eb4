"""Fifty requests at once whose clients leave at random instants: nothing is left of them, in memory or in the ledger."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from a2a_gateway.errors import GatewayError, LLMUnavailable
from a2a_gateway.runs.conversation_queue import ConversationQueue
from a2a_gateway.runs.events import ContentDelta, Failed, Finished, RunEnded, RunFinished
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import LIVE_STATES, AdmittedRun
from a2a_gateway.testing.scripted_runner import RunStep, Spend
from tests.runs.service_bench import NOTHING, Bench, bench_of, follow

pytestmark = pytest.mark.anyio

CLIENTS = 50


def script(run: AdmittedRun) -> Sequence[RunStep]:
    is_failure = UUID(run.record.id).int % 5 == 0
    end = RunEnded(Failed(LLMUnavailable("The LLM is down."))) if is_failure else RunEnded(Finished("done"), "history")
    return [Spend(3, 10), ContentDelta("half"), Spend(2, 10), end]


async def a_client(bench: Bench, chance: random.Random, conversations: Sequence[str]) -> None:
    """Send a request, alone or as the twin of another, and leave at a random moment."""
    context: dict[str, object] = {}
    if chance.random() < 0.5:
        context["conversation_id"] = chance.choice(conversations)
    if chance.random() < 0.3:
        context["idempotency_key"] = f"key-{chance.randrange(5)}"
    task = f"task {chance.randrange(8)}"
    with suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(chance.choice((None, chance.uniform(0, 0.3)))):
            live = await bench.start(task, None, budget_micro_usd=1_000, **context)
            if chance.random() < 0.3:
                await a_child(bench, live)
            if chance.random() < 0.2:
                await bench.service.cancel(live.record.id)
            await read(bench, live)


async def a_child(bench: Bench, parent: LiveRun) -> None:
    with suppress(GatewayError):
        await read(bench, await bench.start("below", parent))


async def read(bench: Bench, live: LiveRun) -> None:
    with live.listen() as listener:
        while not any(isinstance(event, RunFinished) for event in await listener.take()):
            live.receive_text()
    bench.service.deduplication.note_received(live)


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_left_of_requests_whose_clients_leave_at_random_instants(tmp_path: Path, seed: int) -> None:
    chance, turns = random.Random(seed), ConversationQueue(12)
    async with bench_of(tmp_path, script, slots=4, ttl_s=60, queue_timeout_s=0.2, grace_s=0.05, turns=turns) as bench:
        limited = replace(bench, key=replace(bench.key, request_limits=RequestLimits(max_concurrent_runs=30)))
        kept = [await bench.start(f"begin {number}") for number in range(3)]
        for live in kept:
            await follow(live)
        conversations = [live.record.conversation_id for live in kept]
        clients = [asyncio.create_task(a_client(limited, chance, conversations)) for _ in range(CLIENTS)]
        if seed % 2:
            await asyncio.wait(clients, timeout=chance.uniform(0, 0.3))
        else:
            await asyncio.gather(*clients)
        await bench.service.drain(5)
        await asyncio.gather(*clients)
        assert bench.leftovers | {"workspaces": []} == NOTHING
        assert (turns._lines, bench.service.throttle._under_way, bench.service.presumptions._calls) == ({}, {}, {})
        roots = await bench.store.ledger.recent_runs(bench.key.id, 1_000)
        records = [run for root in roots for run in await bench.store.ledger.subtree(root.id)]
        assert [run for run in records if run.state in LIVE_STATES or run.reserved_micro_usd or not run.cost_complete] == []
        assert sum(run.cost_self_micro_usd for run in records) == sum(root.cost_tree_micro_usd for root in roots)
