"""The run service: leads every run from request to outcome.

Above it stand the doors (HTTP), below it the ports: ledger, conversations, workspaces, profiles, runner. It decides nothing about
money or depth (the ledger does, in the transaction that opens a run) and nothing about an agent (the runner does); it keeps the
order of things: admit, lease, start, run, close, stop the descendants, tell, clean up. Every task it starts ends before it does.
"""

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, NamedTuple, Self, assert_never

import structlog

from a2a_gateway.errors import (
    AgentFailed,
    BreadthExceeded,
    GatewayError,
    InternalError,
    NotReady,
    RunCancelled,
    RunLost,
    RunNotFound,
    StoreError,
    StoreLost,
)
from a2a_gateway.runs.answer import decode_answer, encode_answer, reasoning_of, replayed_events
from a2a_gateway.runs.backlog import Backlog
from a2a_gateway.runs.budget import accounts_of_path, unspent
from a2a_gateway.runs.capacity import Capacity
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome, RunEnded, RunFinished, RunStarted, RunSummary
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.meter import RunMeter
from a2a_gateway.runs.model import (
    LIVE_STATES,
    AdmittedRun,
    IdempotencyClaim,
    Limits,
    Profile,
    RunId,
    RunRecord,
    RunRequest,
    RunState,
    SpendCaps,
)
from a2a_gateway.runs.notice import Notice
from a2a_gateway.runs.place import Place, Places
from a2a_gateway.runs.ports import Ledger, Profiles, Runner, RunProposal, RunTokens, SettableClock
from a2a_gateway.runs.proposal import Caller, propose, refuse_loop, resolve_profile
from a2a_gateway.runs.retries import Retries, scope_of
from delegate_tool.context import AgentCard, DelegationBinding, OnDisconnect

log = structlog.get_logger(__name__)

_ARRIVES_WITHIN_S: Final = 5.0
"""How long a run that the ledger has admitted may take to be led."""


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
    idempotency_ttl_s: float = 86_400.0
    retry_store_after_s: float = 1.0


class Attached(NamedTuple):
    """A run that a request has led to; `is_replay` says that the request did not begin it."""

    live: LiveRun
    is_replay: bool


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
    clock: SettableClock
    policy: ServicePolicy
    draining: bool = False
    _leading: dict[RunId, asyncio.Task[None]] = field(default_factory=dict)
    _roots: set[RunId] = field(default_factory=set)
    _stopping: set[asyncio.Task[None]] = field(default_factory=set)
    _run_ended: Notice = field(default_factory=Notice)
    _settled: Notice = field(default_factory=Notice)
    _retries: Retries = field(init=False)
    _backlog: Backlog = field(init=False)

    def __post_init__(self) -> None:
        self._backlog = Backlog(self.policy.retry_store_after_s, on_written=self._run_ended.tell)
        self._retries = Retries(self.clock)

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
        proposal = propose(request, caller, profile, self.policy.defaults, claim=self._claim(request, caller))
        earlier = await self._earlier(request, caller, proposal, profile)
        if earlier is not None:
            return Attached(earlier, is_replay=True)
        if self.draining and caller.run is None:  # what is running may still delegate
            raise _shutting_down()
        live = await self._begin(request, caller, proposal, profile)
        return Attached(live, is_replay=live.record.id != proposal.id)

    async def ended(self, record: RunRecord) -> RunFinished | None:
        """The end of a run that has ended, where it is kept."""
        live = self.live_runs.ended(record.id)
        if live is not None and isinstance(last := live.events[-1], RunFinished):
            return last
        kept = await self._kept_end(record)
        return None if kept is None else kept[0]

    async def follow(self, record: RunRecord) -> LiveRun:
        """Find a run to watch: live, ended a moment ago, or made again of what is kept of its end.

        Raises:
            RunNotFound: of a run that has ended nothing is kept.
        """
        live = self.live_runs.get(record.id) or self.live_runs.ended(record.id)
        if live is None:
            kept = await self._kept_end(record)
            if kept is None:
                raise RunNotFound(
                    f"The events of run {record.id} are not kept any more. Those of a run under way are, and the end of one with "
                    "an idempotency key, or whose client had left."
                )
            live = self._replay(record, Profile(record.agent, "", "", ""), *kept)
        return live

    def delivered(self, live: LiveRun) -> None:
        """Take note that a client has received the end of a run."""
        self._retries.delivered(live)

    async def _begin(self, request: RunRequest, caller: Caller, proposal: RunProposal, profile: Profile) -> LiveRun:
        if not self._leading:
            self.clock.set_right()  # no deadline hangs on it now
        slot = self.capacity.slot(proposal.id, proposal.parent_id, timeout_s=self._queue_timeout_s(caller))
        admitted: asyncio.Future[LiveRun] = asyncio.get_running_loop().create_future()
        leading = self._lead(request, caller, proposal, profile, slot, admitted)
        task = asyncio.create_task(leading, name=f"run {proposal.id}")
        self._leading[proposal.id] = task
        if proposal.parent_id is None:
            self._roots.add(proposal.id)
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

    async def cancel(self, run_id: RunId, *, why: str = "") -> None:
        """Stop a run and all its live descendants, and wait until they have stopped. One that has ended is left alone."""
        live = self.live_runs.get(run_id)
        if live is not None:
            self._request_cancel(live, why)
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
                self._request_cancel(live)
            else:
                task.cancel()  # still waiting to be admitted
        while pending := {*self._leading.values(), *self._stopping}:
            await asyncio.wait(pending)
        await self._backlog.drain()

    # ------------------------------------------------------------------ repeats

    def _claim(self, request: RunRequest, caller: Caller) -> IdempotencyClaim | None:
        # A peer that repeats a request, with a fresh grant, means the same run of its own.
        key = caller.grant.run_id if caller.grant else request.context.idempotency_key
        if key is None:
            return None
        return IdempotencyClaim(scope_of(caller), key, request.fingerprint, self.clock.now() + self.policy.idempotency_ttl_s)

    async def _earlier(self, request: RunRequest, caller: Caller, proposal: RunProposal, profile: Profile) -> LiveRun | None:
        """Find the run that a request repeats: by its idempotency key, or by what it asks."""
        if proposal.claim is None:
            return self._retries.find(request, caller)
        record = await self.ledger.claimed(proposal.claim, proposal.grant)
        return None if record is None else await self._again(record, profile)

    async def _again(self, record: RunRecord, profile: Profile) -> LiveRun:
        """Give an earlier run again: the live one, or what is known of the one that has ended.

        Raises:
            RunLost: it was cut short by a crash.
        """
        live = self.live_runs.get(record.id)
        if live is None and record.state in LIVE_STATES:
            live = await self.live_runs.arrival(record.id, _ARRIVES_WITHIN_S)
        if live is None:
            kept = await self._kept_end(record)
            if kept is None:
                raise _lost(record)
            live = self._replay(record, profile, *kept)
        return live

    async def _kept_end(self, record: RunRecord) -> tuple[RunFinished, str] | None:
        """The end of a run, with the reasoning before it, where the ledger keeps it."""
        summary, kept = await self.ledger.summary(record.id), await self.ledger.answer_of(record.id)
        if summary is None or kept is None:
            return None
        outcome, reasoning = decode_answer(kept)
        return RunFinished(outcome, summary), reasoning

    def _replay(self, record: RunRecord, profile: Profile, finished: RunFinished, reasoning: str = "") -> LiveRun:
        ended = LiveRun(finished.summary.record, profile, OnDisconnect.CONTINUE, self._abandon, self.clock)
        for event in replayed_events(profile, finished, reasoning):
            ended.publish(event)
        return ended

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
            self._spawn(self._close_unled(opening))  # in a task of its own: this one may be cancelled once more
            raise

    async def _close_unled(self, opening: asyncio.Future[RunRecord]) -> None:
        try:
            record = await opening
        except GatewayError:
            return  # it was not admitted
        with suppress(StoreError):  # written later
            await self._close(record.id, Cancelled(), SpendCaps())
        self._run_ended.tell()

    def _left(self, run_id: RunId, admitted: asyncio.Future[LiveRun]) -> None:
        """Forget the task of a run; one that was cancelled before the run was admitted has refused nobody yet."""
        self._leading.pop(run_id, None)
        self._roots.discard(run_id)
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
        """Lead one run from its admission to its end. Never raises: what goes wrong is the outcome, or refuses `admitted`."""
        try:
            async with slot:
                record = await self._open(proposal)
                if record.id != proposal.id:  # the same request came twice at once
                    again = await self._again(record, profile)
                    if not admitted.done():
                        admitted.set_result(again)
                    return
                live = self._enter(record, request, caller, profile)
                self._retries.remember(request, caller, live)
                try:
                    if not admitted.done():
                        admitted.set_result(live)
                    await self._execute(live, request)
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

    def _enter(self, record: RunRecord, request: RunRequest, caller: Caller, profile: Profile) -> LiveRun:
        """Make an admitted run one of the live ones."""
        parent = self.live_runs.get(record.parent_id)
        led_by = parent.actors if parent is not None else caller.grant.actors if caller.grant is not None else ()
        on_disconnect = OnDisconnect.CANCEL if record.parent_id else request.context.on_disconnect or OnDisconnect.CANCEL
        claimed = self._claim(request, caller) is not None
        actors = (*led_by, f"{self.policy.gateway_id}/{record.agent}")
        live = LiveRun(record, profile, on_disconnect, self._abandon, self.clock, claimed=claimed, actors=actors)
        self.live_runs.add(live)
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
            await self._finish(live, Cancelled(why=error.message) if isinstance(error, RunCancelled) else Failed(error))
        except Exception as error:  # the run's boundary: whatever fails, the ledger and the caller must hear of it
            log.exception("run_failed_internally", run_id=run_id)
            await self._finish(live, Failed(AgentFailed(f"The run failed inside the gateway ({type(error).__name__}).")))

    async def _run(self, live: LiveRun, request: RunRequest, place: Place) -> None:
        """Let the runner run; tells the outcome once the conversation is kept, and before the runner has cleaned up.

        Whoever has an answer may go on from it, even if the gateway is killed now; for the rest the caller need not wait.
        """
        patience_s, caps = self.policy.queue_timeout_s, live.profile.caps
        meter = RunMeter(self.ledger, live.record.id, caps, self._backlog, self._settled, patience_s)
        async with aclosing(self.runner.run(self._admitted(live, request, place), meter)) as events:
            async for event in events:
                if isinstance(event, RunEnded):
                    await self._keep(live, place, event.transcript)
                    await self._finish(live, event.outcome)
                    return
                live.publish(event)
        raise AgentFailed("The agent ended without an outcome.")

    async def _keep(self, live: LiveRun, place: Place, transcript: str) -> None:
        try:
            await self.places.keep(place, transcript)
        except StoreError as error:  # the answer has been paid for, and is told all the same
            log.error("conversation_not_kept", run_id=live.record.id, code=error.code)  # noqa: TRY400  # see below

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
            traceparent=request.context.traceparent,
            tracestate=request.context.tracestate,
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
            deadline_at=time.monotonic() + self._left_s(record),
            traceparent=request.context.traceparent,
            tracestate=request.context.tracestate,
        )

    async def _finish(self, live: LiveRun, outcome: Outcome) -> None:
        """Close the run, which revokes its token; stop everything below it; then tell its outcome with the final sums."""
        if live.finished:
            return
        run_id, live.closing, begun = live.record.id, True, bool(live.events)
        if isinstance(outcome, Cancelled) and live.why:
            outcome = replace(outcome, why=live.why)
        try:
            summary = await self._close(run_id, outcome, live.profile.caps, self._kept(live, outcome))
            if await self._cancel_children(run_id):
                summary = await self.ledger.summary(run_id, live.profile.caps) or summary
        except GatewayError as error:
            # Whoever listens must hear of the end, whatever the ledger says, or would wait for ever.
            log.error("run_not_closed", run_id=run_id, code=error.code)  # noqa: TRY400  # the message may quote values
            await self._cancel_children(run_id)
            outcome, summary = Failed(error, outcome.text), RunSummary(replace(live.record, cost_complete=False))
        live.record = summary.record
        live.publish(RunFinished(_unrepeatable(outcome) if begun else outcome, summary))

    def _kept(self, live: LiveRun, outcome: Outcome) -> str | None:
        """What somebody may ask for after the end: with an idempotency key, or because nobody is there to hear it."""
        if live.claimed or live.abandoned or live.on_disconnect is OnDisconnect.CONTINUE:
            return encode_answer(outcome, reasoning_of(live))
        return None

    async def _close(self, run_id: RunId, outcome: Outcome, caps: SpendCaps, answer: str | None = None) -> RunSummary:
        """End a run in the ledger: now, or else, where the database does not take it, as soon as it does."""
        state, reason, code = _closing(outcome)

        def close() -> Awaitable[RunSummary]:
            return self.ledger.close_run(run_id, state, stop_reason=reason, error_code=code, answer=answer, caps=caps)

        try:
            return await close()
        except StoreError:
            self._backlog.add(close)
            raise

    # ------------------------------------------------------------------ stopping

    async def _cancel_children(self, run_id: RunId) -> bool:
        """Stop the live children of a run; says whether there were any."""
        children = self.live_runs.children(run_id)
        for child in children:
            self._request_cancel(child)
        for child in children:
            await child.closed.wait()
        return bool(children)

    def _request_cancel(self, live: LiveRun, why: str = "") -> None:
        """Ask a run and everything below it to stop, all at once rather than level by level."""
        if not live.cancelled.is_set():
            live.why = why
            live.cancelled.set()
            self._spawn(self.runner.cancel(live.record.id))
            for child in self.live_runs.children(live.record.id):
                self._request_cancel(child, why)

    def _abandon(self, live: LiveRun) -> None:
        """The last listener has gone."""
        if live.on_disconnect is OnDisconnect.CANCEL:
            self._spawn(self._cancel_if_abandoned(live))

    async def _cancel_if_abandoned(self, live: LiveRun) -> None:
        times_left = live.times_left
        with suppress(TimeoutError):
            async with asyncio.timeout(self.policy.disconnect_grace_s):
                await live.closed.wait()
        came_back = live.times_left != times_left  # and has gone once more: that has a grace of its own
        if live.abandoned and not came_back and not live.finished:
            self._request_cancel(live)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _left_s(self, record: RunRecord) -> float:
        return max(0.0, record.deadline_at - self.clock.now())


def _lost(record: RunRecord) -> RunLost:
    """Say that a run's end is not known, though it has done something."""
    return RunLost(
        f"Run {record.id} was cut short by a crash of the gateway, or its answer is no longer kept. Send the request with "
        "another idempotency key to run it again.",
        details={"run_id": record.id, "tree_id": record.tree_id, "turns": record.turns},
    )


def _shutting_down() -> NotReady:
    return NotReady("The gateway is shutting down and takes no new runs.", retry_after_s=10)


def _refuse(admitted: asyncio.Future[LiveRun], error: GatewayError) -> None:
    if not admitted.done():
        admitted.set_exception(error)


def _unrepeatable(outcome: Outcome) -> Outcome:
    """How a run has ended that had begun: a failure of the database is then nothing that a client's repetition mends."""
    match outcome:
        case Failed(error=StoreError() as error, text=text):
            message = f"{error.message} The run broke off; what it had used by then is booked as soon as that is possible."
            return Failed(StoreLost(message, details=error.details), text)
        case _:
            return outcome


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
