"""The run service: leads every run from request to outcome.

Above it stand the doors (HTTP), below it the ports: ledger, conversations, workspaces, profiles, runner. It decides nothing about
money or depth (the ledger does, in the transaction that opens a run) and nothing about an agent (the runner does); it keeps the
order of things: admit, lease, start, run, close, stop the descendants, tell, clean up. Every task it starts ends before it does.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, assert_never

import structlog

from a2a_gateway.errors import AgentFailed, BreadthExceeded, GatewayError, InternalError, NotReady, RunCancelled, StoreError
from a2a_gateway.runs.backlog import Backlog
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome, RunEnded, RunFinished, RunStarted, RunSummary
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.meter import RunMeter, Settlements
from a2a_gateway.runs.model import AdmittedRun, Limits, Profile, RunId, RunRecord, RunRequest, RunState
from a2a_gateway.runs.place import Place, Places
from a2a_gateway.runs.ports import Clock, Ledger, Profiles, Runner, RunProposal, RunTokens
from a2a_gateway.runs.proposal import Caller, propose, refuse_loop, resolve_profile
from delegate_tool.context import AgentCard, DelegationBinding, OnDisconnect

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """The server's own settings, as far as runs are concerned.

    Attributes:
        base_url: where this gateway's own agents reach it, ending in `/v1`.
        disconnect_grace_s: how long an abandoned run waits for somebody to attach.
        retry_store_after_s: pause before writing again what the database refused to take at the end of a call or of a run.
    """

    gateway_id: str
    base_url: str
    defaults: Limits
    queue_timeout_s: float = 30.0
    disconnect_grace_s: float = 0.0
    drain_s: float = 30.0
    retry_store_after_s: float = 1.0


@dataclass(slots=True)
class RunService:
    """Leads runs. Use as `async with`; leaving it drains, then cancels what still runs.

    Attributes:
        draining: no new trees are taken any more.
    """

    ledger: Ledger
    live_runs: LiveRuns
    places: Places
    profiles: Profiles
    runner: Runner
    tokens: RunTokens
    capacity: Capacity
    clock: Clock
    policy: ServicePolicy
    draining: bool = False
    _leading: dict[RunId, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: set[asyncio.Task[None]] = field(default_factory=set)
    _run_ended: asyncio.Event = field(default_factory=asyncio.Event)
    _settlements: Settlements = field(default_factory=Settlements)
    _backlog: Backlog = field(init=False)

    def __post_init__(self) -> None:
        self._backlog = Backlog(self.policy.retry_store_after_s, on_written=self._tell_run_ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.drain(self.policy.drain_s)

    # ------------------------------------------------------------------ for the doors

    async def start(self, request: RunRequest, caller: Caller) -> LiveRun:
        """Admit a run and begin it; its events are then followed with `LiveRun.listen`.

        Waits for a slot, and for a sibling to end where the parent has too many live children; to cancel the wait leaves nothing.

        Raises:
            GatewayError: the run was not admitted.
        """
        if self.draining and caller.run is None:  # what is running may still delegate
            raise _shutting_down()
        refuse_loop(request, self.policy.gateway_id)
        profile = resolve_profile(request, caller, self.profiles)
        proposal = propose(request, caller, profile, self.policy.defaults)
        slot = self.capacity.slot(proposal.id, proposal.parent_id, timeout_s=self._queue_timeout_s(caller))
        admitted: asyncio.Future[LiveRun] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._lead(request, proposal, profile, slot, admitted), name=f"run {proposal.id}")
        self._leading[proposal.id] = task
        task.add_done_callback(lambda _: self._left(proposal.id, admitted))
        try:
            return await asyncio.shield(admitted)
        except asyncio.CancelledError:
            if admitted.done() and admitted.exception() is None:
                self._abandon(admitted.result())
            else:
                admitted.cancel()
                task.cancel()
            raise

    async def cancel(self, run_id: RunId) -> None:
        """Stop a run and all its live descendants, and wait until they have stopped. One that has ended is left alone."""
        live = self.live_runs.get(run_id)
        if live is not None:
            self._request_cancel(live)
            await live.closed.wait()

    async def drain(self, timeout_s: float) -> None:
        """Take no new runs, let the running ones end within `timeout_s`, then cancel the rest and wait for them."""
        self.draining = True
        if self._leading and timeout_s > 0:
            await asyncio.wait(self._leading.values(), timeout=timeout_s)
        for run_id, task in list(self._leading.items()):
            live = self.live_runs.get(run_id)
            if live is not None:
                self._request_cancel(live)
            else:
                task.cancel()  # still waiting to be admitted
        while pending := {*self._leading.values(), *self._stopping}:
            await asyncio.wait(pending)
        await self._backlog.drain()

    # ------------------------------------------------------------------ admission

    def _queue_timeout_s(self, caller: Caller) -> float:
        # A child waits as long as its parent may: refusing it would only make the parent ask again.
        return self.policy.queue_timeout_s if caller.run is None else max(0.0, caller.run.deadline_at - self.clock.now())

    async def _open(self, proposal: RunProposal) -> RunRecord:
        """Open the run in the ledger; where the parent has too many live children, after one of them has ended."""
        give_up_at = asyncio.get_running_loop().time() + self.policy.queue_timeout_s
        while True:
            run_ended = self._run_ended  # taken before the attempt: a sibling may end while it is made
            try:
                return await self._open_once(proposal)
            except BreadthExceeded as refusal:
                try:
                    async with asyncio.timeout_at(give_up_at):
                        await run_ended.wait()
                except TimeoutError:
                    raise refusal from None

    async def _open_once(self, proposal: RunProposal) -> RunRecord:
        """Open the run; when the caller has gone meanwhile, close it again, so that no run stays open that nobody leads."""
        opening = asyncio.ensure_future(self.ledger.open_run(proposal))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._spawn(self._close_unled(opening))  # in a task of its own: this one may be cancelled once more
            raise

    async def _close_unled(self, opening: asyncio.Future[RunRecord]) -> None:
        try:
            record = await opening
        except GatewayError:
            return  # it was not admitted
        with suppress(StoreError):  # written later
            await self._close(record.id, Cancelled())
        self._tell_run_ended()

    def _left(self, run_id: RunId, admitted: asyncio.Future[LiveRun]) -> None:
        """Forget the task of a run; one that was cancelled before the run was admitted has refused nobody yet."""
        self._leading.pop(run_id, None)
        _refuse(admitted, _shutting_down())

    # ------------------------------------------------------------------ the life of a run

    async def _lead(
        self,
        request: RunRequest,
        proposal: RunProposal,
        profile: Profile,
        slot: AbstractAsyncContextManager[None],
        admitted: asyncio.Future[LiveRun],
    ) -> None:
        """Lead one run from its admission to its end. Never raises: what goes wrong is the outcome, or refuses `admitted`."""
        try:
            async with slot:
                live = self._enter(await self._open(proposal), request, profile)
                try:
                    if not admitted.done():
                        admitted.set_result(live)
                    await self._execute(live, request)
                finally:
                    self.live_runs.forget(live)
                    self._tell_run_ended()
        except GatewayError as error:
            _refuse(admitted, error)
        except Exception as error:  # the task's boundary: a fault of ours must reach the caller as an error
            log.exception("run_failed_internally", run_id=proposal.id)
            _refuse(
                admitted, InternalError(f"The gateway failed to run this request ({type(error).__name__}); its log says more.")
            )

    def _enter(self, record: RunRecord, request: RunRequest, profile: Profile) -> LiveRun:
        """Make an admitted run one of the live ones."""
        on_disconnect = OnDisconnect.CANCEL if record.parent_id else request.context.on_disconnect or OnDisconnect.CANCEL
        live = LiveRun(record, profile, on_disconnect, on_abandoned=self._abandon)
        self.live_runs.add(live)
        parent = self.live_runs.get(record.parent_id)
        if record.parent_id is not None and (parent is None or parent.ending):
            live.cancelled.set()  # its parent ended, or was stopped, between the ledger's answer and now
        return live

    async def _execute(self, live: LiveRun, request: RunRequest) -> None:
        """Run an admitted run in its place, and finish it whatever happens."""
        run_id = live.record.id
        try:
            async with self.places.hold(live, continues=request.context.conversation_id is not None) as place:
                live.record = await self.ledger.start_run(run_id)
                if live.cancelled.is_set():
                    raise RunCancelled("The run was cancelled before it began.")
                live.publish(RunStarted(live.record, live.profile))
                await self._run(live, request, place)
        except GatewayError as error:
            if live.finished:  # told already; what failed is to keep the conversation, or to remove the workspace
                log.error("place_not_left", run_id=run_id, code=error.code)  # noqa: TRY400  # the message may quote values
                return
            log.info("run_ended_early", run_id=run_id, code=error.code)
            await self._finish(live, Cancelled() if isinstance(error, RunCancelled) else Failed(error))
        except Exception as error:  # the run's boundary: whatever fails, the ledger and the caller must hear of it
            log.exception("run_failed_internally", run_id=run_id)
            await self._finish(live, Failed(AgentFailed(f"The run failed inside the gateway ({type(error).__name__}).")))

    async def _run(self, live: LiveRun, request: RunRequest, place: Place) -> None:
        """Let the runner run; tells the outcome before the runner has cleaned up, because the caller need not wait for that."""
        patience_s, caps = self.policy.queue_timeout_s, live.profile.caps
        meter = RunMeter(self.ledger, live.record.id, caps, self._backlog, self._settlements, patience_s)
        async with aclosing(self.runner.run(self._admitted(live, request, place), meter)) as events:
            async for event in events:
                if isinstance(event, RunEnded):
                    place.transcript = event.transcript
                    await self._finish(live, event.outcome)
                    return
                live.publish(event)
        raise AgentFailed("The agent ended without an outcome.")

    def _admitted(self, live: LiveRun, request: RunRequest, place: Place) -> AdmittedRun:
        return AdmittedRun(
            record=live.record,
            profile=live.profile.name,
            messages=request.messages,
            sampling=request.sampling,
            answer_format=request.answer_format,
            narration=request.context.narration or live.profile.narration,
            workspace_dir=place.workspace_dir,
            timeout_s=self._left_s(live.record),
            transcript=place.conversation.transcript,
            binding=self._binding(live.record) if live.profile.may_delegate else None,
        )

    def _binding(self, record: RunRecord) -> DelegationBinding:
        limits, allowed = record.limits, record.limits.allowed_agents
        cards = [AgentCard(p.model, p.description) for p in self.profiles.list() if allowed is None or p.model in allowed]
        return DelegationBinding(
            base_url=self.policy.base_url,
            token=self.tokens.mint(record),
            run_id=record.id,
            self_agent=record.agent,
            agents=tuple(cards),
            depth_left=limits.max_depth - record.depth,
            runs_left=limits.max_runs,
            budget_left_micro_usd=limits.budget_micro_usd,
            deadline_at=time.monotonic() + self._left_s(record),
        )

    async def _finish(self, live: LiveRun, outcome: Outcome) -> None:
        """Close the run, which revokes its token; stop everything below it; then tell its outcome with the final sums."""
        if live.finished:
            return
        run_id, live.closing = live.record.id, True
        try:
            summary = await self._close(run_id, outcome)
            if await self._cancel_children(run_id):
                summary = await self.ledger.summary(run_id) or summary
        except GatewayError as error:
            # Whoever listens must hear of the end, whatever the ledger says, or would wait for ever.
            log.error("run_not_closed", run_id=run_id, code=error.code)  # noqa: TRY400  # the message may quote values
            await self._cancel_children(run_id)
            outcome, summary = Failed(error), RunSummary(replace(live.record, cost_complete=False))
        live.record = summary.record
        live.publish(RunFinished(outcome, summary))

    async def _close(self, run_id: RunId, outcome: Outcome) -> RunSummary:
        """End a run in the ledger: now, or else, where the database does not take it, as soon as it does."""
        state, stop_reason, error_code = _closing(outcome)
        try:
            return await self.ledger.close_run(run_id, state, stop_reason=stop_reason, error_code=error_code)
        except StoreError:
            self._backlog.add(lambda: self.ledger.close_run(run_id, state, stop_reason=stop_reason, error_code=error_code))
            raise

    def _tell_run_ended(self) -> None:
        self._run_ended.set()
        self._run_ended = asyncio.Event()

    # ------------------------------------------------------------------ stopping

    async def _cancel_children(self, run_id: RunId) -> bool:
        """Stop the live children of a run; says whether there were any."""
        children = self.live_runs.children(run_id)
        for child in children:
            self._request_cancel(child)
        for child in children:
            await child.closed.wait()
        return bool(children)

    def _request_cancel(self, live: LiveRun) -> None:
        """Ask a run and everything below it to stop, all at once rather than level by level."""
        if not live.cancelled.is_set():
            live.cancelled.set()
            self._spawn(self.runner.cancel(live.record.id))
            for child in self.live_runs.children(live.record.id):
                self._request_cancel(child)

    def _abandon(self, live: LiveRun) -> None:
        """The last listener has gone."""
        if live.on_disconnect is OnDisconnect.CANCEL:
            self._spawn(self._cancel_if_abandoned(live))

    async def _cancel_if_abandoned(self, live: LiveRun) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.policy.disconnect_grace_s):
                await live.closed.wait()
        if live.abandoned and not live.finished:
            self._request_cancel(live)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _left_s(self, record: RunRecord) -> float:
        return max(0.0, record.deadline_at - self.clock.now())


def _shutting_down() -> NotReady:
    return NotReady("The gateway is shutting down and takes no new runs.", retry_after_s=10)


def _refuse(admitted: asyncio.Future[LiveRun], error: GatewayError) -> None:
    if not admitted.done():
        admitted.set_exception(error)


def _closing(outcome: Outcome) -> tuple[RunState, str, str | None]:
    """How an outcome is recorded: state, stop reason, error code."""
    match outcome:
        case Finished():
            return RunState.FINISHED, "finished", None
        case Limited(text=text, reason=reason, error=error):
            return (RunState.LIMITED, reason, None) if text else (RunState.FAILED, reason, error.code)
        case Failed(error=error):
            return RunState.FAILED, error.code, error.code
        case Cancelled():
            return RunState.CANCELLED, "cancelled", RunCancelled.code
        case _:
            assert_never(outcome)
