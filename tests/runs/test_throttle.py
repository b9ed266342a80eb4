"""Limits of one key: how many trees it has under way, and how many it begins within a minute."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from a2a_gateway.errors import CapacityExceeded, GatewayError
from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import KeyId, KeyRecord, RunId
from a2a_gateway.runs.throttle import Throttle
from a2a_gateway.stores import sqlite_url
from a2a_gateway.testing.scripted_runner import Until
from delegate_tool.protocol.limits import LimitPolicy
from tests.runs.service_bench import DONE, NOTHING, Bench, bench_of, follow
from tests.support.postgresql import make_postgresql_database, required_postgresql, running_postgresql
from tests.support.until import until

pytestmark = pytest.mark.anyio


@dataclass
class Steps:
    """Time that a test lets pass."""

    at: float = 1_000.0

    def __call__(self) -> float:
        return self.at


def key(name: str = "laptop", **limits: int) -> KeyRecord:
    return KeyRecord(KeyId(name), name, LimitPolicy(), created_at=0, request_limits=RequestLimits(**limits))


def enter(throttle: Throttle, of: KeyRecord) -> RunId:
    run_id = RunId(uuid4().hex)
    throttle.enter(of, run_id)
    return run_id


def refusal(throttle: Throttle, of: KeyRecord) -> tuple[dict[str, object], float | None]:
    with pytest.raises(CapacityExceeded) as refused:
        enter(throttle, of)
    assert (refused.value.code, refused.value.retryable) == ("capacity_exceeded", True)
    return refused.value.details, refused.value.retry_after_s


def test_a_key_has_no_more_trees_under_way_than_it_may() -> None:
    throttle, laptop = Throttle(), key(max_concurrent_runs=2)
    first, _ = enter(throttle, laptop), enter(throttle, laptop)
    assert refusal(throttle, laptop) == ({"scope": "key", "max_concurrent_runs": 2}, 5)
    enter(throttle, key("other", max_concurrent_runs=2))
    for _ in range(2):
        throttle.leave(laptop.id, first)
    enter(throttle, laptop)
    assert refusal(throttle, laptop)[0] == {"scope": "key", "max_concurrent_runs": 2}


def test_a_key_begins_no_more_trees_in_any_minute_than_it_may() -> None:
    throttle, laptop = Throttle(now=(time := Steps())), key(requests_per_minute=2)
    for begun_at in (1_000.0, 1_040.0):
        time.at = begun_at
        throttle.leave(laptop.id, enter(throttle, laptop))
    assert refusal(throttle, laptop) == ({"scope": "key", "requests_per_minute": 2}, 20)
    enter(throttle, key("other", requests_per_minute=2))
    time.at = 1_059.0
    assert refusal(throttle, laptop)[1] == 1  # those that were refused do not count
    time.at = 1_060.0
    enter(throttle, laptop)
    assert refusal(throttle, laptop)[1] == 40
    assert refusal(throttle, key(requests_per_minute=1))[1] == 60  # the limit was lowered since


def test_a_key_without_limits_of_its_own_has_those_of_the_server() -> None:
    throttle = Throttle(RequestLimits(1, 1), Steps())
    enter(throttle, key())
    assert refusal(throttle, key())[0] == {"scope": "key", "max_concurrent_runs": 1}
    generous = key("generous", max_concurrent_runs=2, requests_per_minute=3)
    for _ in range(2):
        enter(throttle, generous)
    assert refusal(throttle, generous)[0] == {"scope": "key", "max_concurrent_runs": 2}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path_factory.mktemp("throttle") / "gateway.db")
        return
    with running_postgresql(required_postgresql()) as server:
        yield make_postgresql_database(server.directory)


@pytest.mark.parametrize("limits", [RequestLimits(max_concurrent_runs=7), RequestLimits(requests_per_minute=7)])
async def test_of_fifty_requests_at_once_exactly_as_many_run_as_the_key_may(
    tmp_path: Path, database_url: str, limits: RequestLimits
) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], slots=3, database_url=database_url) as bench:
        limited = replace(bench, key=replace(bench.key, request_limits=limits))

        async def ask(number: int) -> str:
            try:
                await follow(await limited.start(f"task {number}"))
            except GatewayError as error:
                assert error.details["scope"] == "key"
                return error.code
            return "ran"

        asking = [asyncio.create_task(ask(number)) for number in range(50)]
        await until(lambda: sum(task.done() for task in asking) == 43)  # refused while the others run, or wait for a slot
        gate.set()
        assert Counter(await asyncio.gather(*asking)) == {"ran": 7, "capacity_exceeded": 43}
        assert bench.leftovers == NOTHING


async def test_children_do_not_count_and_an_ended_tree_counts_no_more(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        limited: Bench = replace(bench, key=replace(bench.key, request_limits=RequestLimits(1, 2)))
        root = await limited.start("root")
        child = await limited.start("child", root)
        with pytest.raises(CapacityExceeded):
            await limited.start("beside")
        gate.set()
        await follow(child)
        await follow(root)
        await follow(await limited.start("next"))
        with pytest.raises(CapacityExceeded) as refused:
            await limited.start("too soon")
        assert refused.value.details == {"scope": "key", "requests_per_minute": 2}


async def test_a_repeated_request_gets_its_run_although_its_key_may_begin_no_other(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE]) as bench:
        limited = replace(bench, key=replace(bench.key, request_limits=RequestLimits(1, 1)))
        first = await limited.start("task", idempotency_key="once")
        again = await limited.start("task", idempotency_key="once")
        assert again.record.id == first.record.id
        gate.set()
        await follow(first)


async def test_a_tree_that_is_not_admitted_gives_its_place_back(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        limited = replace(bench, key=replace(bench.key, request_limits=RequestLimits(max_concurrent_runs=1)))
        for _ in range(2):
            with pytest.raises(GatewayError) as refused:
                await limited.start("task", budget_micro_usd=0)
            assert refused.value.code == "budget_exceeded"
        await follow(await limited.start("task"))
