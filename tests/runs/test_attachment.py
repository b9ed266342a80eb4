"""A client's attachment to a run, used in this process as a door or an MCP server uses it."""

import asyncio
from pathlib import Path

import pytest

from a2a_gateway.errors import BudgetExceeded, GatewayError, LLMRateLimited
from a2a_gateway.runs.attachment import Attachment, attach, for_client, watch
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    RunEvent,
    RunFinished,
    RunStarted,
)
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import RunRequest, RunState, TokenUsage
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.testing.scripted_runner import Until
from delegate_tool.protocol.context import DelegationContext
from tests.runs.service_bench import DONE, NOTHING, Bench, bench_of
from tests.support.until import until
from tests.wire.samples import end_of

pytestmark = pytest.mark.anyio


def request(**context: object) -> RunRequest:
    asked = DelegationContext(**context)  # type: ignore[arg-type]  # fields of DelegationContext
    return RunRequest("openhands_a", (UserMessage((TextPart("task"),)),), asked, fingerprint="task")


async def read(bench: Bench, asked: RunRequest) -> tuple[Attachment, list[RunEvent]]:
    async with attach(bench.service, asked, Caller(bench.key)) as run:
        return run, [event async for event in run]


async def test_a_run_is_read_from_its_first_event_to_its_end(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [ContentDelta("do"), ContentDelta("ne"), DONE]) as bench:
        run, events = await read(bench, request())
        assert [type(event) for event in events] == [RunStarted, ContentDelta, ContentDelta, RunFinished]
        assert (run.is_replay, run.has_ended, run.record.state) == (False, True, RunState.FINISHED)
        await until(lambda: bench.leftovers == NOTHING)


async def test_a_repeated_request_attaches_to_the_earlier_run(tmp_path: Path) -> None:
    async with bench_of(tmp_path, lambda _: [ContentDelta("done"), DONE]) as bench:
        first, _ = await read(bench, request(idempotency_key="k"))
        again, events = await read(bench, request(idempotency_key="k"))
        assert (again.is_replay, again.record.id) == (True, first.record.id)
        assert [type(event) for event in events] == [RunStarted, ContentDelta, RunFinished]


async def test_a_client_that_leaves_before_the_end_ends_its_run(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [ContentDelta("half"), Until(never), DONE]) as bench:
        async with attach(bench.service, request(), Caller(bench.key)) as run:
            await anext(aiter(run))
        await until(lambda: bench.leftovers == NOTHING)
        record = await bench.store.ledger.get_run(run.record.id)
        assert record is not None and record.state is RunState.CANCELLED


@pytest.mark.parametrize("is_delivered", [True, False], ids=["delivered", "undelivered"])
async def test_an_end_that_could_not_be_sent_is_sent_to_the_repeated_request(tmp_path: Path, is_delivered: bool) -> None:
    async with bench_of(tmp_path, lambda _: [DONE]) as bench:
        try:
            async with attach(bench.service, request(), Caller(bench.key)) as run:
                async for event in run:
                    if isinstance(event, RunFinished) and not is_delivered:
                        raise OSError
        except OSError:
            pass
        again, _ = await read(bench, request())
        assert (again.record.id == run.record.id) is not is_delivered


async def test_a_watcher_reads_the_same_events_and_keeps_nothing_alive(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with bench_of(tmp_path, lambda _: [ContentDelta("a"), Until(gate), ContentDelta("b"), DONE]) as bench:
        async with attach(bench.service, request(), Caller(bench.key)) as run:
            live = bench.service.live_runs.get(run.record.id)
            assert live is not None
            await until(lambda: len(live.events) == 2)
            with watch(live, 1) as watching:
                gate.set()
                seen = [event async for event in watching]
            assert [type(event) for event in seen] == [ContentDelta, ContentDelta, RunFinished]
            assert not live.is_abandoned
        with watch(live, len(live.events)) as late:
            assert late.has_ended == live.has_ended


async def test_silence_is_an_empty_batch(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with (
        bench_of(tmp_path, lambda _: [Until(never), DONE]) as bench,
        attach(bench.service, request(), Caller(bench.key)) as run,
    ):
        while await run.take(0.01):
            pass
        assert not run.has_ended


@pytest.mark.parametrize("kind", [Failed, Limited])
async def test_only_a_run_that_has_worked_gets_an_error_that_forbids_the_retry(kind: type[Failed | Limited]) -> None:
    error: GatewayError = LLMRateLimited("Slow down.")
    outcome = Failed(error) if kind is Failed else Limited("", "max_turns", error)
    worked = for_client(end_of(outcome, turns=2))
    idle = for_client(end_of(outcome, turns=0, cost_tree_micro_usd=0, descendants=0, usage=TokenUsage()))
    assert [_error_of(end).retryable for end in (worked, idle)] == [False, True]
    assert error.retryable and error.details == {}  # it is not changed, since the end may be read again


@pytest.mark.parametrize("outcome", [Finished("done"), Cancelled("half"), Limited("half", "max_turns", BudgetExceeded("spent"))])
async def test_other_ends_reach_the_client_as_they_are(outcome: Finished | Cancelled | Limited) -> None:
    assert for_client(end_of(outcome)) == end_of(outcome)


def _error_of(end: RunFinished) -> GatewayError:
    assert isinstance(end.outcome, Failed | Limited)
    return end.outcome.error
