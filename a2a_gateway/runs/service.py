"""The run service: the way of every request from the doors to the end of its run.

    RunService.start ── Opening: take in, deduplicate, count against the key, wait for a slot, open in the ledger
         │                  (a refused or repeated request leaves nothing behind)
         └─ one task per run ── Leading: lease, start, run, keep, finish
                                  ├─ Finalization: ledger, descendants, `RunFinished`
                                  └─ Cancellation: on request, when the client leaves, on shutdown

The ledger decides about money and depth, in the transaction that opens a run; the runner decides about the agent. The service
owns the order of the steps, and the tasks. Each task ends before the service does.

A run waits twice before it works, and the order matters. A run that begins a conversation takes its slot first. A run that
continues one waits for its turn on the conversation and then takes its slot, so that runs in that queue occupy no slots
(`conversation_queue`).
"""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import NamedTuple, Self

import structlog

from a2a_gateway.errors import GatewayError, InternalError, NotReady
from a2a_gateway.runs.cancellation import Cancellation
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.deduplication import Deduplication
from a2a_gateway.runs.ended_runs import EndedRuns
from a2a_gateway.runs.fault_log import log_fault
from a2a_gateway.runs.finalization import Finalization
from a2a_gateway.runs.intake import Intake
from a2a_gateway.runs.journal import Journals
from a2a_gateway.runs.leading import Leading
from a2a_gateway.runs.leases import Leases
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import RunId, RunRecord, RunRequest
from a2a_gateway.runs.opening import Opening
from a2a_gateway.runs.ports import Ledger, Profiles, Runner, RunTokens, SettableClock
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.service_policy import ServicePolicy
from a2a_gateway.runs.task_marks import TaskMarks
from a2a_gateway.runs.throttle import Throttle
from a2a_gateway.runs.write_retries import WriteRetries

log = structlog.get_logger(__name__)


class StartedRun(NamedTuple):
    """The run of a request; `is_replay` is True if an earlier request began it."""

    live: LiveRun
    is_replay: bool


@dataclass(slots=True)
class RunService:
    """Starts, leads, cancels and drains runs. Use as `async with`; leaving it drains, then cancels what still runs.

    Attributes:
        throttle: refuses requests beyond the limits of their keys.
        draining: no new trees are started.
        marks: see `task_marks`.
        deduplication: finds the run that a request repeats.
        mask: replaces the credentials of the sites in a text, before it is kept.
        ended_runs: reads what is kept of runs that have ended.
        presumptions: what a crash would charge for the LLM calls under way.
    """

    ledger: Ledger
    journals: Journals
    live_runs: LiveRuns
    leases: Leases
    profiles: Profiles
    runner: Runner
    tokens: RunTokens
    capacity: Capacity
    clock: SettableClock
    policy: ServicePolicy
    throttle: Throttle = field(default_factory=Throttle)
    draining: bool = False
    marks: TaskMarks = field(default_factory=TaskMarks)
    mask: Callable[[str], str] = str
    ended_runs: EndedRuns = field(init=False)
    deduplication: Deduplication = field(init=False)
    presumptions: Presumptions = field(init=False)
    _cancellation: Cancellation = field(init=False)
    _write_retries: WriteRetries = field(init=False)
    _opening: Opening = field(init=False)
    _leading: Leading = field(init=False)
    _tasks: dict[RunId, asyncio.Task[None]] = field(default_factory=dict)
    _roots: set[RunId] = field(default_factory=set)

    def __post_init__(self) -> None:
        ledger, live_runs, clock, policy = self.ledger, self.live_runs, self.clock, self.policy
        self.ended_runs = EndedRuns(ledger, self.journals, live_runs, clock)
        self.deduplication = Deduplication(ledger, live_runs, clock, self.ended_runs)
        self.presumptions = Presumptions(ledger)
        self._cancellation = Cancellation(live_runs, self.runner, policy.disconnect_grace_s)
        self._write_retries = WriteRetries(policy.retry_store_after_s, on_written=self._note_written)
        finalization = Finalization(ledger, self._cancellation, self._write_retries, self.throttle, policy.journal_bytes)
        self._opening = Opening(
            ledger,
            live_runs,
            self.profiles,
            clock,
            policy,
            self.marks,
            self.throttle,
            self.deduplication,
            self._cancellation,
            finalization,
            self.mask,
        )
        self._leading = Leading(
            ledger,
            live_runs,
            self.leases,
            self.profiles,
            self.runner,
            self.tokens,
            clock,
            policy,
            self._cancellation,
            finalization,
            self.presumptions,
            self._write_retries,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.drain(self.policy.drain_s)

    async def start(self, request: RunRequest, caller: Caller) -> StartedRun:
        """Admit a run and begin it, or find the run that the request repeats; `LiveRun.listen` follows its events.

        Waits for a slot, and, if the parent has too many live children, for one of them to end. If this wait is cancelled, no run
        stays open.

        Raises:
            GatewayError: the run was not admitted.
        """
        intake = self._opening.take_in(request, caller)
        earlier = await self._opening.find_earlier(intake)
        if earlier is not None:
            return StartedRun(earlier, is_replay=True)
        if self.draining and caller.run is None:  # runs under way may still delegate
            raise _shutting_down()
        if (path := request.context.workspace) is not None:
            intake = replace(intake, named_dir=await self.leases.find_named_dir(path, caller, intake.profile))
        self._opening.enter(intake)
        live = await self._begin(intake)
        return StartedRun(live, is_replay=live.record.id != intake.proposal.id)

    async def cancel(self, run_id: RunId, *, why: str = "") -> None:
        """Cancel a run and all its live descendants, and wait until they have closed. Does nothing if the run has ended.

        Args:
            why: a sentence for the callers of these runs.
        """
        live = self.live_runs.get(run_id)
        if live is not None:
            self._cancellation.request(live, why)
            await live.closed.wait()

    async def cancel_run_of_key(self, idempotency_key: str, caller: Caller) -> RunRecord | None:
        """Cancel the run of a caller's idempotency key, and return it; None if the key has no run."""
        record = await self.ledger.get_run_of_key(caller.scope, idempotency_key)
        if record is not None:
            await self.cancel(record.id)
        return record

    async def drain(self, timeout_s: float) -> None:
        """Start no new trees, let the running ones end within `timeout_s`, then cancel the rest and wait for them.

        Trees that still wait to be admitted are refused at once, because another gateway may accept them.
        """
        self.draining = True
        for run_id in self._roots & self._tasks.keys() - {live.record.id for live in self.live_runs}:
            self._tasks[run_id].cancel()
        if self._tasks and timeout_s > 0:
            await asyncio.wait(self._tasks.values(), timeout=timeout_s)
        for run_id, task in list(self._tasks.items()):
            live = self.live_runs.get(run_id)
            if live is not None:
                self._cancellation.request(live, "The gateway shut down before the run had finished.")
            else:
                task.cancel()  # still waiting to be admitted
        while pending := {*self._tasks.values(), *self._cancellation.tasks}:
            await asyncio.wait(pending)
        await self._write_retries.drain()

    async def _begin(self, intake: Intake) -> LiveRun:
        """Start the task of a run, and wait until the run is admitted."""
        proposal = intake.proposal
        if not self._tasks:
            self.clock.synchronise()  # safe: no run is under way, so no deadline depends on the clock
        admitted: asyncio.Future[LiveRun] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._open_and_lead(intake, admitted), name=f"run {proposal.id}")
        self._tasks[proposal.id] = task
        if proposal.parent_id is None:
            self._roots.add(proposal.id)
        task.add_done_callback(lambda _: self._forget(intake, admitted))
        try:
            return await asyncio.shield(admitted)
        except asyncio.CancelledError:
            if admitted.done() and admitted.exception() is None:
                admitted.result().leave()
            else:
                admitted.cancel()
                task.cancel()
            raise

    async def _open_and_lead(self, intake: Intake, admitted: asyncio.Future[LiveRun]) -> None:
        """Open one run and lead it to its end. Never raises: a failure is the run's outcome, or is set on `admitted`."""
        proposal = intake.proposal
        slot = self.capacity.slot(proposal.id, proposal.parent_id, timeout_s=self._queue_timeout_s(intake))
        before_opening, in_turn = (slot, None) if proposal.starts else (nullcontext(), slot)
        try:
            async with before_opening:
                opened = await self._opening.open(intake)
                if isinstance(opened, LiveRun):
                    _admit(admitted, opened)
                    return
                live = self._leading.enter(opened, intake)
                self.deduplication.remember(intake, live)
                try:
                    _admit(admitted, live)
                    await self._leading.lead(live, intake, in_turn)
                finally:
                    self.live_runs.remove(live)
                    self._opening.run_ended.notify()
        except GatewayError as error:
            _refuse(admitted, error)
        except Exception as error:  # noqa: BLE001  # the last line of the task; the caller must receive an error
            log_fault(log, "run_failed_internally", run_id=proposal.id)
            _refuse(
                admitted,
                InternalError(f"The gateway failed to run this request ({type(error).__name__}); its log has the details."),
            )

    def _queue_timeout_s(self, intake: Intake) -> float:
        # A child waits as long as its parent may: a refusal would only make the parent ask again.
        parent = intake.caller.run
        return self.policy.queue_timeout_s if parent is None else max(0.0, parent.deadline_at - self.clock.now())

    def _forget(self, intake: Intake, admitted: asyncio.Future[LiveRun]) -> None:
        """Forget the task of a run; if it was cancelled before the run was admitted, refuse the request."""
        proposal = intake.proposal
        self._tasks.pop(proposal.id, None)
        self._roots.discard(proposal.id)
        self.throttle.leave(proposal.key_id, proposal.id)
        _refuse(admitted, _shutting_down())

    def _note_written(self) -> None:
        self._opening.run_ended.notify()
        self._leading.settled.notify()


def _shutting_down() -> NotReady:
    return NotReady("The gateway is shutting down and starts no new runs.", retry_after_s=10)


def _admit(admitted: asyncio.Future[LiveRun], live: LiveRun) -> None:
    if not admitted.done():
        admitted.set_result(live)


def _refuse(admitted: asyncio.Future[LiveRun], error: GatewayError) -> None:
    if not admitted.done():
        admitted.set_exception(error)
