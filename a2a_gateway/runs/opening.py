"""Opening: from a request to a run that the ledger has admitted, or to the earlier run that the request repeats.

    step          decides
    take_in       which agent the request names, and which run it proposes
    find_earlier  whether the request repeats an earlier one
    enter         whether the key may begin one more tree
    open          whether the ledger admits the run; if the parent has too many live children, waits for one of them to end

A refusal at any step leaves nothing in the ledger. No run stays open there without a task that leads it: if the caller gives up
while the transaction is under way, the run is closed again (`_discard`).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from a2a_gateway.errors import BreadthExceeded, GatewayError, StoreError
from a2a_gateway.runs.cancellation import Cancellation
from a2a_gateway.runs.deduplication import Deduplication
from a2a_gateway.runs.finalization import Finalization
from a2a_gateway.runs.intake import Intake, RequestIdentity
from a2a_gateway.runs.journal import keep_task
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.messages import task_of
from a2a_gateway.runs.model import IdempotencyKey, RunId, RunRecord, RunRequest
from a2a_gateway.runs.ports import Clock, Ledger, Profiles, RunProposal
from a2a_gateway.runs.proposal import Caller, propose, refuse_loop, resolve_profile
from a2a_gateway.runs.service_policy import ServicePolicy
from a2a_gateway.runs.signal import Signal
from a2a_gateway.runs.task_marks import TaskMarks
from a2a_gateway.runs.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Opening:
    """Opens runs.

    Attributes:
        marks: see `task_marks`.
        mask: see `RunService`.
        run_ended: notified when a run has ended, so that a sibling may begin.
    """

    ledger: Ledger
    live_runs: LiveRuns
    profiles: Profiles
    clock: Clock
    policy: ServicePolicy
    marks: TaskMarks
    throttle: Throttle
    deduplication: Deduplication
    cancellation: Cancellation
    finalization: Finalization
    mask: Callable[[str], str] = str
    run_ended: Signal = field(default_factory=Signal)

    def take_in(self, request: RunRequest, caller: Caller) -> Intake:
        """Resolve a request: its agent, the run that it proposes, and its identity for deduplication.

        Raises:
            GatewayLoop: this gateway has forwarded the request before.
            ModelNotFound: no profile has that name.
            AuthenticationError: the caller's token opens no runs; `AgentNotAllowed` if it is for another agent.
        """
        refuse_loop(request, self.policy.gateway_id)
        profile = resolve_profile(request, caller, self.profiles)
        parent = self.live_runs.get(caller.run.id if caller.run else None)
        trail = request.context.trail if parent is None else parent.trail
        idempotency_key = self._idempotency_key(request, caller)
        proposal = propose(
            request,
            caller,
            profile,
            self.policy.defaults,
            self.marks,
            trail=trail,
            idempotency_key=idempotency_key,
            task=keep_task(task_of(request.messages), self.policy.journal_bytes, self.mask),
        )
        identity = RequestIdentity(caller.scope, request.fingerprint) if request.fingerprint else None
        return Intake(request, caller, profile, proposal, identity)

    async def find_earlier(self, intake: Intake) -> LiveRun | None:
        """Find the run that a request repeats; see `Deduplication.find`."""
        return await self.deduplication.find(intake)

    def enter(self, intake: Intake) -> None:
        """Count a request that begins a tree against its key, after cancelling the runs that it replaces.

        Raises:
            CapacityExceeded: the key is at one of its limits.
        """
        for replaced in self.deduplication.list_replaced(intake):
            self.cancellation.request(replaced, "Its client left in the middle of the answer and sent the request again.")
            self.throttle.leave(replaced.record.key_id, replaced.record.id)  # the new run takes its place
        if intake.proposal.parent_id is None:
            self.throttle.enter(intake.caller.key, intake.proposal.id)

    async def open(self, intake: Intake) -> RunRecord | LiveRun:
        """Open the run in the ledger; return its record, or the run of an equal request that arrived in the same instant.

        Raises:
            GatewayError: the run is not admitted.
        """
        while (record := await self._open(intake.proposal)).id != intake.proposal.id:
            earlier = await self.find_earlier(intake)
            if earlier is not None:
                return earlier
        return record

    def _idempotency_key(self, request: RunRequest, caller: Caller) -> IdempotencyKey | None:
        # A peer that repeats a request, with a new grant, means the same run of its own.
        key = caller.grant.run_id if caller.grant else request.context.idempotency_key
        if key is None:
            return None
        return IdempotencyKey(caller.scope, key, request.fingerprint, self.clock.now() + self.policy.idempotency_ttl_s)

    async def _open(self, proposal: RunProposal) -> RunRecord:
        """Open the run; if the parent has too many live children, wait until one of them has ended."""
        give_up_at = asyncio.get_running_loop().time() + self.policy.queue_timeout_s
        while True:
            run_ended = self.run_ended.next  # taken before the attempt: a sibling may end during it
            try:
                return await self._open_once(proposal)
            except BreadthExceeded as refusal:
                try:
                    async with asyncio.timeout_at(give_up_at):
                        await run_ended.wait()
                except TimeoutError:
                    raise refusal from None

    async def _open_once(self, proposal: RunProposal) -> RunRecord:
        opening = asyncio.ensure_future(self.ledger.open_run(proposal))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # In a task of its own, because this one may be cancelled once more.
            self.cancellation.spawn(self._discard(proposal.id, opening))
            raise

    async def _discard(self, run_id: RunId, opening: asyncio.Future[RunRecord]) -> None:
        """Close the run of a caller that gave up while the run was being opened."""
        try:
            record = await opening
        except GatewayError:
            return  # it was not admitted
        if record.id == run_id:  # else it is the run of an earlier request, and has a task
            with suppress(StoreError):  # the write is tried again
                await self.finalization.discard(run_id)
            self.run_ended.notify()
            self.live_runs.note_discarded()
