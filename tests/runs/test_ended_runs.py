"""What is kept in memory of runs that ended with no client there: bounded in number, bytes and age."""

from pathlib import Path

import pytest

from a2a_gateway.errors import LLMUnavailable
from a2a_gateway.runs.events import ContentDelta, Failed, Finished, RunEnded
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.testing.scripted_runner import Spend
from delegate_tool.protocol.context import DelegationContext, OnDisconnect
from tests.runs.service_bench import Bench, bench_of, end_of, follow

pytestmark = pytest.mark.anyio

LONG = "x" * 8 * 1024 * 1024
SAYS_MUCH = (ContentDelta(LONG), RunEnded(Finished(LONG)))


async def ask(bench: Bench, fingerprint: str, on_disconnect: OnDisconnect = OnDisconnect.CONTINUE) -> LiveRun:
    context = DelegationContext(on_disconnect=on_disconnect)
    asked = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), context, fingerprint=fingerprint)
    return (await bench.service.start(asked, Caller(bench.key))).live


async def abandon_run(bench: Bench, fingerprint: str) -> LiveRun:
    """Start a run that its client leaves at once, and wait for its end."""
    live = await ask(bench, fingerprint)
    with live.listen():
        pass
    await live.closed.wait()
    return live


async def test_long_answers_that_no_client_received_are_dropped_oldest_first(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: SAYS_MUCH) as bench:
        runs = [await abandon_run(bench, f"request {number}") for number in range(5)]
        live_runs = bench.service.live_runs
        assert [live.is_shed for live in runs] == [True, True, False, False, False]
        assert [live_runs.get_ended(live.record.id) for live in runs] == [None, None, *runs[2:]]
        assert sum(live.event_bytes for live in runs) < 4 * 2 * len(LONG)
        live_runs.shed_old(bench.service.clock.now() + 3600)
        assert all(live.is_shed for live in runs)
        assert max(live.event_bytes for live in runs) < 20_000


async def test_a_repeated_request_gets_a_dropped_answer_from_the_ledger(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: SAYS_MUCH) as bench:
        first = await abandon_run(bench, "the same")
        bench.service.live_runs.shed_old(bench.service.clock.now() + 3600)
        again = await ask(bench, "the same")
        assert (again.record.id, len(bench.runner.admitted)) == (first.record.id, 1)
        assert end_of(again.events).outcome.text == LONG


async def test_a_failure_after_work_is_returned_again_although_it_is_in_no_ledger(tmp_path: Path) -> None:
    failure = RunEnded(Failed(LLMUnavailable("The LLM is down."), "half"))
    async with bench_of(tmp_path, lambda run: [Spend(5), Spend(5), failure]) as bench:
        first = await ask(bench, "the same", OnDisconnect.CANCEL)
        await follow(first)  # and its connection breaks before the end is written to it
        bench.service.live_runs.shed_old(bench.service.clock.now() + 3600)
        again = await ask(bench, "the same", OnDisconnect.CANCEL)
        assert (first.is_shed, again.record.id, len(bench.runner.admitted)) == (True, first.record.id, 1)
        assert end_of(again.events).outcome == failure.outcome


async def test_a_run_that_is_being_read_keeps_its_events(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda run: SAYS_MUCH) as bench:
        live = await abandon_run(bench, "read")
        with live.watch(0):
            bench.service.live_runs.shed_old(bench.service.clock.now() + 3600)
            assert not live.is_shed
        bench.service.live_runs.shed_old(bench.service.clock.now() + 3600)
        assert live.is_shed
