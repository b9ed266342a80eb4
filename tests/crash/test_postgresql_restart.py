"""The gateway's PostgreSQL server goes away under load, and comes back."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.model import LIVE_STATES
from a2a_gateway.stores import Store, open_store
from a2a_gateway.testing.script import Step, Usage
from tests.error_texts.texts import pattern_of
from tests.support.ask import partial_of, user
from tests.support.gateway import scripted_gateway
from tests.support.postgresql import PostgresqlServer, make_postgresql_database, required_postgresql, running_postgresql
from tests.support.until import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.postgres]

PROFILE = """---
name: priced
description: Works.
tools: []
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""
RUNS = 6


@contextmanager
def stop_server(server: PostgresqlServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


async def ask(client: AsyncOpenAI, *steps: Step) -> Any:
    return await client.chat.completions.create(model="openhands_priced", messages=[user("Go.", *steps)])


async def refusal_of(work: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as refusal:
        await work
    assert (refusal.value.status_code, refusal.value.code) == (503, "store_unavailable")
    return refusal.value


async def test_runs_during_a_database_restart_are_booked_and_the_lock_is_kept(tmp_path: Path) -> None:
    with running_postgresql(required_postgresql()) as server:
        url = make_postgresql_database(server.directory)
        with scripted_gateway(tmp_path, {"priced": PROFILE}, database_url=url, shell_pool_size=0) as (gateway, llm):
            async with gateway.client() as client:
                step = Step(content="paid for", usage=Usage(700, 1), gate="away")
                asking = [asyncio.create_task(ask(client, step)) for _ in range(RUNS)]
                await llm.wait_until(lambda traffic: traffic.waiting_at("away") == RUNS)
                with stop_server(server):
                    at_the_door = await refusal_of(ask(client))
                    llm.open_gate("away")
                    lost = [await refusal_of(one) for one in asking]
                async with open_store(url, SystemClock()) as store:
                    await wait_until_booked(store)
                    runs = await store.ledger.recent_runs(None, 100)
                answer = await ask(client, Step(content="as before"))
                with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a database of two gateways")):
                    async with open_store(f"{url}&options=-c%20lock_timeout%3D100ms", SystemClock(), as_gateway=True):
                        pass
    assert at_the_door.response.headers["x-should-retry"] == "true"
    assert [error.response.headers["x-should-retry"] for error in lost] == ["false"] * RUNS
    assert [partial_of(error) for error in lost] == ["paid for"] * RUNS
    assert [(run.cost_tree_micro_usd, run.reserved_micro_usd, run.cost_complete) for run in runs] == [(702, 0, True)] * RUNS
    assert answer.choices[0].message.content == "as before"


async def wait_until_booked(store: Store) -> None:
    """Wait until every run has ended in the ledger and nothing is reserved."""

    async def is_booked() -> bool:
        runs = await store.ledger.recent_runs(None, 100)
        return not any(run.state in LIVE_STATES or run.reserved_micro_usd for run in runs)

    await until(is_booked)
