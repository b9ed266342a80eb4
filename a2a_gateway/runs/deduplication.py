"""Requests that come again, and runs that are asked about later: the run that is meant, live, or made of what is kept of it.

Above it stands the run service; below it `retries` (what plain clients repeat without saying so) and the ledger, which keeps
idempotency keys and how their runs ended.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from a2a_gateway.errors import RunLost, RunNotFound
from a2a_gateway.runs.events import Cancelled, Failed, RunFinished
from a2a_gateway.runs.kept_outcome import decode_answer, replay
from a2a_gateway.runs.keyless_retries import Retries, scope_of
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import LIVE_STATES, IdempotencyClaim, Profile, RunRecord, RunRequest
from a2a_gateway.runs.ports import Clock, Ledger, RunProposal
from a2a_gateway.runs.proposal import Caller

_ARRIVES_WITHIN_S: Final = 5.0
"""How long a run that the ledger has admitted may take to be led."""


@dataclass(slots=True)
class Repeats:
    """Finds earlier runs.

    Attributes:
        claim_ttl_s: how long an idempotency key stands for its run.
    """

    ledger: Ledger
    live_runs: LiveRuns
    clock: Clock
    claim_ttl_s: float
    _retries: Retries = field(init=False)

    def __post_init__(self) -> None:
        self._retries = Retries(self.clock)

    def claim(self, request: RunRequest, caller: Caller) -> IdempotencyClaim | None:
        """The wish of a request that it be carried out once; None if it has none."""
        # A peer that repeats a request, with a fresh grant, means the same run of its own.
        key = caller.grant.run_id if caller.grant else request.context.idempotency_key
        if key is None:
            return None
        return IdempotencyClaim(scope_of(caller), key, request.fingerprint, self.clock.now() + self.claim_ttl_s)

    async def find(self, request: RunRequest, caller: Caller, proposal: RunProposal, profile: Profile) -> LiveRun | None:
        """Find the run that a request repeats: by its idempotency key, or by what it asks.

        Raises:
            RunLost: nothing is known of it any more.
        """
        if proposal.claim is None:
            live = self._retries.find(request, caller)
            return live if live is None or not live.is_shed else await self._kept(live, profile)
        record = await self.ledger.claimed(proposal.claim)
        if record is not None and record.state in LIVE_STATES and await self._arrival(record) is None:
            record = await self.ledger.claimed(proposal.claim)  # its client had left, and nothing was done: the claim is free
        if record is not None and proposal.grant is not None:
            record = await self.ledger.claimed(proposal.claim, proposal.grant)  # only now: a grant is good once
        return None if record is None else await self._again(record, profile)

    def remember(self, request: RunRequest, caller: Caller, live: LiveRun) -> None:
        """Note which run a request has begun."""
        self._retries.remember(request, caller, live)

    def stopped(self, request: RunRequest, caller: Caller) -> Sequence[LiveRun]:
        """List the runs under way that a client stopped which now sends the same request to begin another."""
        return self._retries.stopped(request, caller)

    def delivered(self, live: LiveRun) -> None:
        """Take note that a client has received the end of a run."""
        self._retries.delivered(live)

    async def _kept(self, shed: LiveRun, profile: Profile) -> LiveRun | None:
        """Rebuild a run whose events were dropped; None if its answer is kept nowhere. What is left of a failure is enough."""
        kept = await self._kept_end(shed.record)
        if kept is None and isinstance(end := shed.events[-1], RunFinished) and isinstance(end.outcome, Failed | Cancelled):
            kept = end, ""
        return None if kept is None else replay(profile, *kept, self.clock)

    async def _again(self, record: RunRecord, profile: Profile) -> LiveRun:
        """Give an earlier run again: the live one, or what is known of the one that has ended.

        Raises:
            RunLost: nothing is known of it any more.
        """
        live = self.live_runs.get(record.id)
        if live is None and record.state in LIVE_STATES:
            live = await self._arrival(record)
        if live is None:
            live = replay(profile, *(await self._kept_end(record) or await self._lost_end(record)), self.clock)
        return live

    async def _arrival(self, record: RunRecord) -> LiveRun | None:
        """Wait for a run that was admitted a moment ago; None if it does not come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVES_WITHIN_S):
                while True:
                    changed = self.live_runs.changed
                    if (live := self.live_runs.get(record.id)) is not None:
                        return live
                    known = await self.ledger.get_run(record.id)
                    if known is None or known.state not in LIVE_STATES:
                        return None
                    await changed.wait()
        return None

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
            live = replay(Profile(record.agent, "", "", ""), *kept, self.clock)
        return live

    async def _kept_end(self, record: RunRecord) -> tuple[RunFinished, str] | None:
        """The end of a run, with the reasoning before it, where the ledger keeps it."""
        summary, kept = await self.ledger.summary(record.id), await self.ledger.answer_of(record.id)
        if summary is None or kept is None:
            return None
        outcome, reasoning = decode_answer(kept)
        return RunFinished(outcome, summary), reasoning

    async def _lost_end(self, record: RunRecord) -> tuple[RunFinished, str]:
        """The end of a run of which only its record is left: what it has cost is still told."""
        error = RunLost(
            f"Run {record.id} was cut short by a crash of the gateway, or its answer is no longer kept. Send the request "
            "with another idempotency key to run it again.",
            details={"run_id": record.id, "tree_id": record.tree_id, "turns": record.turns},
        )
        summary = await self.ledger.summary(record.id)
        if summary is None:
            raise error
        return RunFinished(Failed(error), summary), ""
