"""Clients of runs: they leave, come back, and ask the same again."""

import asyncio
from pathlib import Path

import pytest

from a2a_gateway.runs.events import Finished
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import RunRequest, RunState
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.testing.scripted_runner import Until
from delegate_tool.context import OnDisconnect
from tests.runs.service_bench import DONE, bench_of, finished

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
            while not live.finished:
                await listener.take()
        assert isinstance(finished(live.events).outcome, Finished)


async def test_equal_requests_are_runs_of_their_own_until_the_client_of_one_has_left(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=60) as bench:
        request = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), fingerprint="the-same")
        caller = Caller(bench.key)
        first, second = [(await bench.service.start(request, caller)).live for _ in range(2)]  # nobody listens to either yet
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
