"""Requests that are sent again after a failure: executed only if nothing had been done, else answered by the same failure."""

import asyncio
import time
from pathlib import Path

import pytest

from a2a_gateway.errors import (
    GatewayError,
    InternalError,
    LLMBadRequest,
    LLMRateLimited,
    LLMUnavailable,
    NotReady,
    PeerUnavailable,
    RunLost,
    StoreLost,
)
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.attachment import for_client
from a2a_gateway.runs.events import Cancelled, ContentDelta, Failed, RunEnded
from a2a_gateway.runs.keyless_retries import REMEMBERED_S
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.retry_rule import REMEDY
from a2a_gateway.testing.scripted_runner import RunStep, Spend, Until
from a2a_gateway.wire.outcome import render_outcome
from delegate_tool.protocol.context import DelegationContext
from tests.runs.service_bench import DONE, Bench, bench_of, end_of, follow
from tests.support.until import until

pytestmark = pytest.mark.anyio

_MAY_PASS = [InternalError, LLMRateLimited, LLMUnavailable, NotReady, PeerUnavailable, RunLost, StoreLost]


class MovedClock(SystemClock):
    """The machine's clock, which a test sets forward."""

    def __init__(self) -> None:
        self.moved_s = 0.0
        super().__init__(lambda: time.time() + self.moved_s, lambda: time.monotonic() + self.moved_s)


def request(key: str | None = None, *, is_marked_retry: bool = False, task: str = "task") -> RunRequest:
    return RunRequest(
        "openhands_a",
        (UserMessage((TextPart(task),)),),
        DelegationContext(idempotency_key=key),
        fingerprint=task,
        is_marked_retry=is_marked_retry,
    )


async def run_to_end(bench: Bench, asked: RunRequest) -> LiveRun:
    """Send a request, and receive its end as a client does."""
    live = (await bench.service.start(asked, Caller(bench.key))).live
    await (until(lambda: live.has_ended) if live.has_ended else follow(live))
    bench.service.deduplication.note_received(live)
    return live


def error_of(live: LiveRun) -> GatewayError:
    error = render_outcome(for_client(end_of(live.events)))
    assert isinstance(error, GatewayError)
    return error


@pytest.mark.parametrize("key", [None, "k"], ids=["without-key", "with-key"])
@pytest.mark.parametrize("kind", _MAY_PASS)
async def test_a_failure_that_may_pass_is_run_again_only_if_nothing_was_done(
    tmp_path: Path, kind: type[GatewayError], key: str | None
) -> None:
    scripts: list[list[RunStep]] = [[kind("gone")], [Spend(7), RunEnded(Failed(kind("gone"), "half"))], [DONE]]
    async with bench_of(tmp_path, lambda _: scripts[len(bench.runner.admitted) - 1]) as bench:
        idle = await run_to_end(bench, request(key))
        worked = await run_to_end(bench, request(key))
        again = await run_to_end(bench, request(key))
        assert len(bench.runner.admitted) == 2
        assert len({idle.record.id, worked.record.id, again.record.id}) == 2
        assert error_of(idle).retryable is kind.retryable
        assert [(error_of(live).code, error_of(live).retryable) for live in (worked, again)] == [(kind.code, False)] * 2
        assert error_of(again).details["partial"] == "half"
        assert error_of(again).message == error_of(worked).message
        assert REMEDY in error_of(again).message


async def test_a_cancelled_run_that_had_worked_is_not_begun_again_by_a_repetition(tmp_path: Path) -> None:
    scripts: list[list[RunStep]] = [[RunEnded(Cancelled())], [Spend(7), RunEnded(Cancelled("half"))], [DONE]]
    async with bench_of(tmp_path, lambda _: scripts[len(bench.runner.admitted) - 1]) as bench:
        runs = [await run_to_end(bench, request()) for _ in range(3)]
        assert len(bench.runner.admitted) == 2
        assert runs[1].record.id == runs[2].record.id
        assert (error_of(runs[2]).code, error_of(runs[2]).retryable) == ("run_cancelled", False)
        assert [REMEDY in error_of(live).message for live in runs] == [False, False, True]


async def test_a_run_whose_end_the_database_refused_is_not_begun_again_by_a_repetition(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [Spend(7), DONE]) as bench:
        bench.change("CREATE TRIGGER stuck BEFORE UPDATE OF ended_at ON runs BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        first = await run_to_end(bench, request())
        bench.change("DROP TRIGGER stuck")
        again = await run_to_end(bench, request())
        assert (error_of(first).code, error_of(again).code) == ("store_unavailable", "store_unavailable")
        assert len(bench.runner.admitted) == 1


async def test_each_repetition_renews_the_minute_of_a_failure_after_work(tmp_path: Path) -> None:
    clock = MovedClock()
    async with bench_of(tmp_path, lambda _: [Spend(7), LLMUnavailable("down")], clock=clock) as bench:
        first = await run_to_end(bench, request())
        for _ in range(5):
            clock.moved_s += REMEMBERED_S - 5
            assert (await run_to_end(bench, request())).record.id == first.record.id
        clock.moved_s += REMEMBERED_S + 1
        assert (await run_to_end(bench, request())).record.id != first.record.id
        assert len(bench.runner.admitted) == 2


async def test_a_failure_before_any_work_is_remembered_for_one_minute_only(tmp_path: Path) -> None:
    clock = MovedClock()
    async with bench_of(tmp_path, lambda _: [LLMBadRequest("no")], clock=clock) as bench:
        first = await run_to_end(bench, request())
        clock.moved_s += REMEMBERED_S - 5
        assert (await run_to_end(bench, request())).record.id == first.record.id
        clock.moved_s += 10
        assert (await run_to_end(bench, request())).record.id != first.record.id


async def test_a_changed_request_or_another_key_begins_anew_after_a_failure(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [Spend(7), LLMUnavailable("down")]) as bench:
        asked = [request(), request(), request(task="another"), request("k"), request("k"), request("new")]
        runs = [(await run_to_end(bench, each)).record.id for each in asked]
        assert runs[0] == runs[1]
        assert runs[3] == runs[4]
        assert len(set(runs)) == 4


async def test_of_a_failure_little_more_than_the_error_is_kept(tmp_path: Path) -> None:
    text = "x" * 100_000
    script: list[RunStep] = [ContentDelta(text), Spend(7), RunEnded(Failed(LLMUnavailable("down"), text))]
    async with bench_of(tmp_path, lambda _: script) as bench:
        await run_to_end(bench, request())
        again = (await bench.service.start(request(), Caller(bench.key))).live
        assert len(again.events) == 2
        assert len(end_of(again.events).outcome.text) < 10_000


async def test_the_failures_that_are_remembered_are_bounded_and_the_latest_asked_for_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a2a_gateway.runs.keyless_retries._REMEMBERED_RUNS", 3)
    async with bench_of(tmp_path, lambda _: [Spend(7), LLMUnavailable("down")]) as bench:
        first, second, *_ = [(await run_to_end(bench, request(task=str(number)))).record.id for number in range(3)]
        assert (await run_to_end(bench, request(task="0"))).record.id == first
        await run_to_end(bench, request(task="3"))
        await run_to_end(bench, request(task="4"))
        assert (await run_to_end(bench, request(task="0"))).record.id == first
        assert (await run_to_end(bench, request(task="1"))).record.id != second


async def test_each_of_two_clients_that_come_back_gets_its_own_run(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Until(gate), DONE], grace_s=60) as bench:
        caller = Caller(bench.key)
        first, second = [(await bench.service.start(request(), caller)).live for _ in range(2)]
        with second.listen():
            with first.listen():
                pass
            back = await bench.service.start(request(), caller)
            assert (back.live, back.is_replay) == (first, True)
        with first.listen():
            assert (await bench.service.start(request(), caller)).live is second
        gate.set()
        await asyncio.gather(first.closed.wait(), second.closed.wait())
        # Both have ended without a client. The first that comes back gets the first.
        for live in (first, second):
            back = await bench.service.start(request(), caller)
            assert back.live is live
            bench.service.deduplication.note_received(back.live)
        assert len(bench.runner.admitted) == 2


@pytest.mark.parametrize("how", ["unmarked", "marked", "another"])
async def test_a_stopped_answer_is_begun_anew_unless_the_request_is_a_marked_retry(tmp_path: Path, how: str) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Spend(7), Until(gate), DONE], grace_s=60) as bench:
        caller = Caller(bench.key)
        stopped = (await bench.service.start(request(), caller)).live
        with stopped.listen():
            stopped.receive_text()  # as the server notes it
        asked = request(task="another" if how == "another" else "task", is_marked_retry=how == "marked")
        back = (await bench.service.start(asked, caller)).live
        assert (back is stopped) == (how == "marked")
        assert stopped.cancelled.is_set() == (how == "unmarked")
        gate.set()
        await asyncio.gather(back.closed.wait(), stopped.closed.wait())


async def test_a_stopped_answer_that_ended_meanwhile_is_not_shown_to_an_unmarked_request(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [Spend(7), Until(gate), DONE], grace_s=60) as bench:
        caller = Caller(bench.key)
        stopped = (await bench.service.start(request(), caller)).live
        with stopped.listen():
            stopped.receive_text()
        gate.set()
        await stopped.closed.wait()
        assert (await bench.service.start(request(is_marked_retry=True), caller)).live is stopped
        assert (await bench.service.start(request(), caller)).live is not stopped
