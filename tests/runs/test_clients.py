"""Clients of runs: they leave, come back, and ask the same again."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, event

from a2a_gateway.errors import AuthenticationError
from a2a_gateway.runs.events import Finished
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import Grant, RunRequest, RunState
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.testing.scripted_runner import Spend, Until
from delegate_tool.protocol.context import DelegationContext, OnDisconnect
from delegate_tool.protocol.limits import LimitPolicy
from tests.runs.service_bench import DONE, bench_of, end_of, follow
from tests.support.until import until

pytestmark = pytest.mark.anyio


async def test_an_abandoned_run_is_cancelled_and_one_that_shall_continue_is_not(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=0.01) as bench:
        left, kept = await bench.start(), await bench.start(on_disconnect=OnDisconnect.CONTINUE)
        for live in (left, kept):
            with live.listen():
                pass
        await left.closed.wait()
        gate.set()
        await kept.closed.wait()
        assert (await bench.state(left), await bench.state(kept)) == (RunState.CANCELLED, RunState.FINISHED)


async def test_a_run_to_which_somebody_comes_back_in_time_goes_on(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=0.01) as bench:
        other, live = await bench.start(), await bench.start()
        with live.listen():
            pass
        with live.listen() as listener:
            with other.listen():
                pass
            await other.closed.wait()  # left after `live` was, so the grace of `live` is over, too
            gate.set()
            while not live.has_ended:
                await listener.take()
        assert isinstance(end_of(live.events).outcome, Finished)


async def test_equal_requests_are_runs_of_their_own_until_the_client_of_one_has_left(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=60) as bench:
        request = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), fingerprint="the-same")
        caller = Caller(bench.key)
        first, second = [(await bench.service.start(request, caller)).live for _ in range(2)]  # neither has a listener yet
        assert first is not second
        with second.listen():
            third = (await bench.service.start(request, caller)).live
            assert third is not second
            with third.listen():
                pass
            again = await bench.service.start(request, caller)
            assert (again.live, again.is_replay) == (third, True)
        gate.set()
        for live in (first, second, third):
            await live.closed.wait()


async def test_a_run_that_ends_before_its_client_listens_is_no_repeat_of_another(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        request = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), fingerprint="the-same")
        first = (await bench.service.start(request, Caller(bench.key))).live
        await first.closed.wait()
        assert (await bench.service.start(request, Caller(bench.key))).live is not first


@dataclass(frozen=True)
class Halt:
    """A point in the middle of the transaction that opens a run: `reached` by the first of them, which then waits for `go_on`."""

    reached: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)


@pytest.fixture
def halt() -> Iterator[Halt]:
    made = Halt()

    def wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO runs"):
            made.reached.set()
            made.go_on.wait()

    event.listen(Engine, "before_cursor_execute", wait)
    yield made
    event.remove(Engine, "before_cursor_execute", wait)


def once(key: str) -> RunRequest:
    return RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), DelegationContext(idempotency_key=key), fingerprint="f")


async def test_the_idempotency_key_of_a_client_that_left_at_admission_is_free_again(tmp_path: Path, halt: Halt) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        starting = asyncio.create_task(bench.service.start(once("k"), Caller(bench.key)))
        await until(halt.reached.is_set)
        starting.cancel()
        halt.go_on.set()
        await asyncio.wait({starting})
        again = await bench.service.start(once("k"), Caller(bench.key))
        assert (again.is_replay, end_of(await follow(again.live)).outcome) == (False, Finished("done"))


async def test_the_second_of_two_requests_runs_if_the_first_was_left_at_admission(tmp_path: Path, halt: Halt) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        first, second = [asyncio.create_task(bench.service.start(once("k"), Caller(bench.key))) for _ in range(2)]
        await until(lambda: halt.reached.is_set() and bench.service.capacity.working == 2)
        first.cancel()
        halt.go_on.set()
        await asyncio.wait({first})
        begun = await second
        assert not begun.is_replay
        assert end_of(await follow(begun.live)).outcome == Finished("done")


async def test_a_peer_that_asks_again_after_leaving_has_its_grant_used_once(tmp_path: Path, halt: Halt) -> None:
    def caller_of_peer(jti: str) -> Caller:
        expires_at = bench.service.clock.now() + 60
        return Caller(bench.key, grant=Grant("desk", "its-run", "its-tree", jti, expires_at, "openhands_a", 0, LimitPolicy()))

    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        starting = asyncio.create_task(bench.service.start(once("k"), caller_of_peer("first")))
        await until(halt.reached.is_set)
        starting.cancel()
        halt.go_on.set()
        await asyncio.wait({starting})
        again = await bench.service.start(once("k"), caller_of_peer("second"))
        assert not again.is_replay
        assert end_of(await follow(again.live)).outcome == Finished("done")
        with pytest.raises(AuthenticationError):
            await bench.service.start(once("k"), caller_of_peer("second"))
        assert (await bench.service.start(once("k"), caller_of_peer("third"))).is_replay


async def test_a_client_that_leaves_another_clients_run_does_not_end_it(tmp_path: Path, halt: Halt) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), Spend(5), DONE]) as bench:
        first, second = [asyncio.create_task(bench.service.start(once("k"), Caller(bench.key))) for _ in range(2)]
        await until(lambda: halt.reached.is_set() and bench.service.capacity.working == 2)
        second.cancel()
        halt.go_on.set()
        await asyncio.wait({second})
        live = (await first).live
        await until(lambda: bench.service.capacity.working == 1)
        gate.set()
        assert end_of(await follow(live)).outcome == Finished("done")
