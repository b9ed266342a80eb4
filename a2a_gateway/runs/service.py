"""The run service: leads every run from request to outcome.

Above it stand the doors (HTTP), below it the ports: ledger, conversations, workspaces, profiles, runner. It decides nothing about
money or depth (the ledger does, in the transaction that opens a run) and nothing about an agent (the runner does); it keeps the
order of things: admit, lease, start, run, close, stop the descendants, tell, clean up. Every task it starts ends before it does.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import structlog

from a2a_gateway.errors import (
    AgentFailed,
    BreadthExceeded,
    GatewayError,
    InternalError,
    NotReady,
    RunCancelled,
    StoreError,
)
from a2a_gateway.runs.budget import accounts_of_path, unspent
from a2a_gateway.runs.cancellation import Stopping
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.deduplication import Repeats
from a2a_gateway.runs.events import Cancelled, Failed, RunEnded, RunStarted
from a2a_gateway.runs.finalization import Closing
from a2a_gateway.runs.keyless_retries import scope_of
from a2a_gateway.runs.leases import Place, Places
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.meter import RunMeter
from a2a_gateway.runs.model import (
    AdmittedRun,
    Profile,
    RunId,
    RunRecord,
    RunRequest,
    RunState,
)
from a2a_gateway.runs.ports import Ledger, Profiles, Runner, RunProposal, RunTokens, SettableClock
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.runs.proposal import Caller, propose, refuse_loop, resolve_profile
from a2a_gateway.runs.service_policy import ServicePolicy
from a2a_gateway.runs.signal import Notice
from a2a_gateway.runs.task_marks import LONGEST_TRAIL, TaskMarks
from a2a_gateway.runs.throttle import Throttle
from a2a_gateway.runs.write_retries import Backlog
from delegate_tool.protocol.context import AgentCard, DelegationBinding, OnDisconnect

log = structlog.get_logger(__name__)


class Attached(NamedTuple):
    """A run that a request has led to; `is_replay` says that the request did not begin it."""

    live: LiveRun
    is_replay: bool


@dataclass(slots=True)
class RunService:
    """Leads runs. Use as `async with`; leaving it drains, then cancels what still runs.

    Attributes:
        throttle: refuses requests beyond the limits of their keys.
        draining: no new trees are taken any more.
        repeats: finds the run that a request, or a question about a run, means.
        marks: by which an agent's task is recognised when it comes back.
        presumptions: what a crash would charge for the calls under way.
    """

    ledger: Ledger
    live_runs: LiveRuns
    places: Places
    profiles: Profiles
    runner: Runner
    tokens: RunTokens
    capacity: Capacity
    clock: SettableClock
    policy: ServicePolicy
    throttle: Throttle = field(default_factory=Throttle)
    draining: bool = False
    marks: TaskMarks = field(default_factory=TaskMarks)
    _leading: dict[RunId, asyncio.Task[None]] = field(default_factory=dict)
    _roots: set[RunId] = field(default_factory=set)
    _run_ended: Notice = field(default_factory=Notice)
    _settled: Notice = field(default_factory=Notice)
    repeats: Repeats = field(init=False)
    presumptions: Presumptions = field(init=False)
    _stopping: Stopping = field(init=False)
    _backlog: Backlog = field(init=False)
    _closing: Closing = field(init=False)

    def __post_init__(self) -> None:
        self.repeats = Repeats(self.ledger, self.live_runs, self.clock, self.policy.idempotency_ttl_s)
        self.presumptions = Presumptions(self.ledger)
        self._stopping = Stopping(self.live_runs, self.runner, self.policy.disconnect_grace_s)
        self._backlog = Backlog(self.policy.retry_store_after_s, on_written=self._tell_written)
        self._closing = Closing(self.ledger, self._stopping, self._backlog, self.throttle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.drain(self.policy.drain_s)

    # ------------------------------------------------------------------ for the doors

    async def start(self, request: RunRequest, caller: Caller) -> Attached:
        """Admit a run and begin it, or find the one that the request repeats; its events are followed with `LiveRun.listen`.

        Waits for a slot, and for a sibling to end where the parent has too many live children; to cancel the wait leaves nothing.

        Raises:
            GatewayError: the run was not admitted.
        """
        refuse_loop(request, self.policy.gateway_id)
        profile = resolve_profile(request, caller, self.profiles)
        parent = self.live_runs.get(caller.run.id if caller.run else None)
        claim, trail = self.repeats.claim(request, caller), request.context.trail if parent is None else parent.trail
        proposal = propose(request, caller, profile, self.policy.defaults, self.marks, trail=trail, claim=claim)
        earlier = await self.repeats.find(request, caller, proposal, profile)
        if earlier is not None:
            return Attached(earlier, is_replay=True)
        if self.draining and caller.run is None:  # what is running may still delegate
            raise _shutting_down()
        for stopped in self.repeats.stopped(request, caller):
            self._stopping.request(stopped, "Its client left in the middle of the answer and sent the request anew.")
            self.throttle.leave(stopped.record.key_id, stopped.record.id)  # it counts no more: the new run takes its place
        live = await self._begin(request, caller, proposal, profile)
        return Attached(live, is_replay=live.record.id != proposal.id)

    async def _begin(self, request: RunRequest, caller: Caller, proposal: RunProposal, profile: Profile) -> LiveRun:
        if proposal.parent_id is None:
            self.throttle.enter(caller.key, proposal.id)
        if not self._leading:
            self.clock.set_right()  # no deadline hangs on it now
        slot = self.capacity.slot(proposal.id, proposal.parent_id, timeout_s=self._queue_timeout_s(caller))
        admitted: asyncio.Future[LiveRun] = asyncio.get_running_loop().create_future()
        leading = self._lead(request, caller, proposal, profile, slot, admitted)
        task = asyncio.create_task(leading, name=f"run {proposal.id}")
        self._leading[proposal.id] = task
        if proposal.parent_id is None:
            self._roots.add(proposal.id)
        task.add_done_callback(lambda _: self._left(proposal, admitted))
        try:
            return await asyncio.shield(admitted)
        except asyncio.CancelledError:
            if admitted.done() and admitted.exception() is None:
                admitted.result().leave()
            else:
                admitted.cancel()
                task.cancel()
            raise

    async def cancel(self, run_id: RunId, *, why: str = "") -> None:
        """Stop a run and all its live descendants, and wait until they have stopped. One that has ended is left alone."""
        live = self.live_runs.get(run_id)
        if live is not None:
            self._stopping.request(live, why)
            await live.closed.wait()

    async def cancel_claimed(self, idempotency_key: str, caller: Caller) -> RunRecord | None:
        """Stop the run of a caller's idempotency key; None if it has none, or none yet."""
        record = await self.ledger.run_of_claim(scope_of(caller), idempotency_key)
        if record is not None:
            await self.cancel(record.id)
        return record

    async def drain(self, timeout_s: float) -> None:
        """Take no new trees, let the running ones end within `timeout_s`, then cancel the rest and wait for them.

        Trees that still wait to be admitted are refused at once: another gateway may take them.
        """
        self.draining = True
        for run_id in self._roots & self._leading.keys() - {live.record.id for live in self.live_runs}:
            self._leading[run_id].cancel()
        if self._leading and timeout_s > 0:
            await asyncio.wait(self._leading.values(), timeout=timeout_s)
        for run_id, task in list(self._leading.items()):
            live = self.live_runs.get(run_id)
            if live is not None:
                self._stopping.request(live, why="The gateway shut down before the run had finished.")
            else:
                task.cancel()  # still waiting to be admitted
        while pending := {*self._leading.values(), *self._stopping.tasks}:
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
            run_ended = self._run_ended.next  # taken before the attempt: a sibling may end while it is made
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
            self._stopping.spawn(self._discard(proposal.id, opening))  # in a task of its own: this one may be cancelled once more
            raise

    async def _discard(self, run_id: RunId, opening: asyncio.Future[RunRecord]) -> None:
        try:
            record = await opening
        except GatewayError:
            return  # it was not admitted
        if record.id == run_id:  # else it is the run of an earlier request, which has a leader
            with suppress(StoreError):  # written later
                await self._closing.discard(run_id)
            self._run_ended.tell()
            self.live_runs.discard()

    def _tell_written(self) -> None:
        self._run_ended.tell()
        self._settled.tell()

    def _left(self, proposal: RunProposal, admitted: asyncio.Future[LiveRun]) -> None:
        """Forget the task of a run; one that was cancelled before the run was admitted has refused nobody yet."""
        self._leading.pop(proposal.id, None)
        self._roots.discard(proposal.id)
        self.throttle.leave(proposal.key_id, proposal.id)
        _refuse(admitted, _shutting_down())

    # ------------------------------------------------------------------ the life of a run

    async def _lead(
        self,
        request: RunRequest,
        caller: Caller,
        proposal: RunProposal,
        profile: Profile,
        slot: AbstractAsyncContextManager[None],
        admitted: asyncio.Future[LiveRun],
    ) -> None:
        """Lead one run from its admission to its end. Never raises: what goes wrong is the outcome, or refuses `admitted`.

        A run that continues a conversation takes its slot when it is its turn there, so that those who wait hold none.
        """
        first, in_turn = (slot, None) if proposal.starts else (nullcontext(), slot)
        try:
            async with first:
                while (record := await self._open(proposal)).id != proposal.id:  # the same request came twice at once
                    earlier = await self.repeats.find(request, caller, proposal, profile)
                    if earlier is not None:
                        if not admitted.done():
                            admitted.set_result(earlier)
                        return
                live = self._enter(record, request, proposal, profile)
                self.repeats.remember(request, caller, live)
                try:
                    if not admitted.done():
                        admitted.set_result(live)
                    await self._execute(live, request, in_turn)
                finally:
                    self.live_runs.forget(live)
                    self._run_ended.tell()
        except GatewayError as error:
            _refuse(admitted, error)
        except Exception as error:  # the task's boundary: a fault of ours must reach the caller as an error
            log.exception("run_failed_internally", run_id=proposal.id)
            _refuse(
                admitted, InternalError(f"The gateway failed to run this request ({type(error).__name__}); its log says more.")
            )

    def _enter(self, record: RunRecord, request: RunRequest, proposal: RunProposal, profile: Profile) -> LiveRun:
        """Make an admitted run one of the live ones."""
        parent, grant, on_abandoned = self.live_runs.get(record.parent_id), proposal.grant, self._stopping.abandon
        led_by = parent.actors if parent is not None else grant.actors if grant is not None else ()
        on_disconnect = OnDisconnect.CANCEL if record.parent_id else request.context.on_disconnect or OnDisconnect.CANCEL
        claimed, actors = proposal.claim is not None, (*led_by, f"{self.policy.gateway_id}/{record.agent}")
        trail = (*proposal.trail, record.task_hash)[-LONGEST_TRAIL:]
        live = LiveRun(record, profile, on_disconnect, on_abandoned, self.clock, claimed=claimed, actors=actors, trail=trail)
        self.live_runs.add(live)
        if record.parent_id is not None and (parent is None or parent.ending):
            live.cancelled.set()  # its parent ended, or was stopped, between the ledger's answer and now
        return live

    async def _execute(self, live: LiveRun, request: RunRequest, in_turn: AbstractAsyncContextManager[None] | None) -> None:
        """Run an admitted run in its place, and finish it whatever happens."""
        run_id = live.record.id
        try:
            async with self.places.hold(live, in_turn=in_turn) as place:
                if live.record.state is RunState.QUEUED:
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
            await self._closing.finish(live, Cancelled(why=error.message) if isinstance(error, RunCancelled) else Failed(error))
        except Exception as error:  # the run's boundary: whatever fails, the ledger and the caller must hear of it
            log.exception("run_failed_internally", run_id=run_id)
            await self._closing.finish(live, Failed(AgentFailed(f"The run failed inside the gateway ({type(error).__name__}).")))

    async def _run(self, live: LiveRun, request: RunRequest, place: Place) -> None:
        """Let the runner run; tells the outcome once the conversation is kept, and before the runner has cleaned up.

        Whoever has an answer may go on from it, even if the gateway is killed now; for the rest the caller need not wait.
        """
        patience_s, caps = self._left_s(live.record), live.profile.caps
        meter = RunMeter(self.ledger, live.record.id, caps, self._backlog, self._settled, self.presumptions, patience_s)
        async with aclosing(self.runner.run(self._admitted(live, request, place), meter)) as events:
            async for event in events:
                if isinstance(event, RunEnded):
                    await self._keep(live, place, event.transcript)
                    await self._closing.finish(live, event.outcome)
                    return
                live.publish(event)
        raise AgentFailed("The agent ended without an outcome.")

    async def _keep(self, live: LiveRun, place: Place, transcript: str) -> None:
        try:
            await self.places.keep(place, transcript)
        except StoreError as error:  # the answer has been paid for, and is told all the same
            log.error("conversation_not_kept", run_id=live.record.id, code=error.code)  # noqa: TRY400  # the message may quote values

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
            binding=self._binding(live.record, request) if live.profile.may_delegate else None,
            peer=live.profile.peer,
            via=request.context.via,
            actors=live.actors,
            trail=live.trail,
            traceparent=request.context.traceparent,
            tracestate=request.context.tracestate,
            is_marked_retry=request.is_marked_retry,
        )

    def _binding(self, record: RunRecord, request: RunRequest) -> DelegationBinding:
        limits, allowed = record.limits, record.limits.allowed_agents
        cards = [AgentCard(p.model, p.description) for p in self.profiles.list() if allowed is None or p.model in allowed]
        return DelegationBinding(
            base_url=self.policy.base_url,
            token=self.tokens.mint(record),
            run_id=record.id,
            self_agent=record.agent,
            agents=tuple(cards),
            depth=record.depth,
            depth_left=limits.max_depth - record.depth,
            runs_left=limits.max_runs,
            budget_left_micro_usd=unspent(accounts_of_path([record], below=True)),
            timeout_s=self._left_s(record),
            traceparent=request.context.traceparent,
            tracestate=request.context.tracestate,
        )

    def _left_s(self, record: RunRecord) -> float:
        return max(0.0, record.deadline_at - self.clock.now())


def _shutting_down() -> NotReady:
    return NotReady("The gateway is shutting down and takes no new runs.", retry_after_s=10)


def _refuse(admitted: asyncio.Future[LiveRun], error: GatewayError) -> None:
    if not admitted.done():
        admitted.set_exception(error)
