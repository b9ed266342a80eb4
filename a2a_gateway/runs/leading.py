"""Leading: one admitted run from its entry among the live runs to its end.

    enter    a `LiveRun` is made, and cancelled at once if its parent has ended meanwhile
    lease    conversation and workspace are acquired, for a run that continues a conversation in its turn
    start    the ledger records the run as running; `RunStarted` is published
    run      the runner's events are published
    keep     the conversation is stored
    finish   the end is recorded, descendants are stopped, `RunFinished` is published

The conversation is kept before the end is published, so a client that has an answer can continue from it, even if the gateway is
killed at that moment. The runner cleans up after the end is published, because no client needs to wait for that.
"""

from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field

import structlog

from a2a_gateway.errors import AgentFailed, GatewayError, RunCancelled, StoreError
from a2a_gateway.runs.budget import accounts_of_path, unspent
from a2a_gateway.runs.cancellation import Cancellation
from a2a_gateway.runs.events import Cancelled, Failed, RunEnded, RunStarted
from a2a_gateway.runs.fault_log import log_fault
from a2a_gateway.runs.finalization import Finalization
from a2a_gateway.runs.intake import Intake
from a2a_gateway.runs.leases import Lease, Leases
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.meter import RunMeter
from a2a_gateway.runs.model import AdmittedRun, RunRecord, RunRequest, RunState
from a2a_gateway.runs.ports import Clock, Ledger, Profiles, Runner, RunTokens
from a2a_gateway.runs.presumptions import Presumptions
from a2a_gateway.runs.service_policy import ServicePolicy
from a2a_gateway.runs.signal import Signal
from a2a_gateway.runs.task_marks import LONGEST_TRAIL
from a2a_gateway.runs.write_retries import WriteRetries
from delegate_tool.protocol.context import AgentCard, DelegationBinding, OnDisconnect

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Leading:
    """Leads admitted runs.

    Attributes:
        settled: notified when an LLM call of any run has returned what it held.
    """

    ledger: Ledger
    live_runs: LiveRuns
    leases: Leases
    profiles: Profiles
    runner: Runner
    tokens: RunTokens
    clock: Clock
    policy: ServicePolicy
    cancellation: Cancellation
    finalization: Finalization
    presumptions: Presumptions
    write_retries: WriteRetries
    settled: Signal = field(default_factory=Signal)

    def enter(self, record: RunRecord, intake: Intake) -> LiveRun:
        """Make an admitted run one of the live ones."""
        proposal = intake.proposal
        parent = self.live_runs.get(record.parent_id)
        live = LiveRun(
            record,
            OnDisconnect.CANCEL if record.parent_id else intake.request.context.on_disconnect or OnDisconnect.CANCEL,
            self.cancellation.note_abandoned,
            self.clock,
            has_idempotency_key=proposal.idempotency_key is not None,
            actors=(*_actors_above(parent, intake), f"{self.policy.gateway_id}/{record.agent}"),
            trail=(*proposal.trail, record.task_hash)[-LONGEST_TRAIL:],
        )
        self.live_runs.add(live)
        if record.parent_id is not None and (parent is None or parent.is_ending):
            live.cancel()  # its parent ended, or was cancelled, between the ledger's decision and now
        return live

    async def lead(self, live: LiveRun, intake: Intake, in_turn: AbstractAsyncContextManager[None] | None) -> None:
        """Run an entered run under its lease, and finish it whatever happens.

        Args:
            in_turn: see `Leases.acquire`.
        """
        run_id, caps = live.record.id, intake.profile.caps
        try:
            async with self.leases.acquire(live, intake.profile, in_turn=in_turn, named_dir=intake.named_dir) as lease:
                if live.record.state is RunState.QUEUED:
                    live.record = await self.ledger.start_run(run_id)
                if live.cancelled.is_set():
                    raise RunCancelled("The run was cancelled before it began.")
                live.publish(RunStarted(live.record))
                await self._run(live, intake, lease)
        except GatewayError as error:
            if live.has_ended:  # the end is published; what failed is to keep the conversation, or to remove the workspace
                log.error("lease_not_returned", run_id=run_id, code=error.code)  # noqa: TRY400  # the message may quote values
                return
            log.info("run_ended_early", run_id=run_id, code=error.code)
            outcome = Cancelled(why=error.message) if isinstance(error, RunCancelled) else Failed(error)
            await self.finalization.finish(live, outcome, caps)
        except Exception as error:  # noqa: BLE001  # the ledger and the caller must receive an end
            log_fault(log, "run_failed_internally", run_id=run_id)
            failure = AgentFailed(f"The run failed inside the gateway ({type(error).__name__}).")
            await self.finalization.finish(live, Failed(failure), caps)

    async def _run(self, live: LiveRun, intake: Intake, lease: Lease) -> None:
        patience_s, caps = self._remaining_s(live.record), intake.profile.caps
        meter = RunMeter(self.ledger, live.record.id, caps, self.write_retries, self.settled, self.presumptions, patience_s)
        async with aclosing(self.runner.run(self._build_admitted(live, intake, lease), meter)) as events:
            async for event in events:
                if isinstance(event, RunEnded):
                    await self._keep(live, lease, event.transcript)
                    await self.finalization.finish(live, event.outcome, caps)
                    return
                live.publish(event)
        raise AgentFailed("The agent ended without an outcome.")

    async def _keep(self, live: LiveRun, lease: Lease, transcript: str) -> None:
        try:
            await self.leases.keep(lease, transcript)
        except StoreError as error:  # the answer has been paid for, and is published all the same
            log.error("conversation_not_kept", run_id=live.record.id, code=error.code)  # noqa: TRY400  # the message may quote values

    def _build_admitted(self, live: LiveRun, intake: Intake, lease: Lease) -> AdmittedRun:
        request, profile = intake.request, intake.profile
        return AdmittedRun(
            record=live.record,
            profile=profile.name,
            messages=request.messages,
            sampling=request.sampling,
            answer_format=request.answer_format,
            narration=request.context.narration or profile.narration,
            workspace_dir=lease.workspace_dir,
            timeout_s=self._remaining_s(live.record),
            transcript=lease.conversation.transcript,
            binding=self._binding(live.record, request) if profile.may_delegate else None,
            peer=profile.peer,
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
            timeout_s=self._remaining_s(record),
            traceparent=request.context.traceparent,
            tracestate=request.context.tracestate,
        )

    def _remaining_s(self, record: RunRecord) -> float:
        return max(0.0, record.deadline_at - self.clock.now())


def _actors_above(parent: LiveRun | None, intake: Intake) -> tuple[str, ...]:
    """Name the agents that led to a run: those of its parent here, or of the peer's grant."""
    if parent is not None:
        return parent.actors
    grant = intake.proposal.grant
    return () if grant is None else grant.actors
