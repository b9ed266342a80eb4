"""Deduplication: which run does a request repeat?

    the request has        its earlier run is found by              known for                     in
    an idempotency key     the caller's scope and the key           `idempotency_ttl_s`           the ledger
    a peer's grant         the caller's scope and the peer's run    `idempotency_ttl_s`           the ledger
    neither                the caller's scope and a fingerprint     a minute after its end        memory (`keyless_retries`)

A run that failed may have to be carried out again instead: `retry_rule` decides that for all three. The run that is found is a
live one, or is rebuilt from what is kept of its end (`ended_runs`).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from a2a_gateway.runs.ended_runs import EndedRuns, rebuild_run
from a2a_gateway.runs.events import Cancelled, Failed, RunFinished
from a2a_gateway.runs.intake import Intake
from a2a_gateway.runs.keyless_retries import KeylessRetries
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import LIVE_STATES, Grant, IdempotencyKey, RunRecord
from a2a_gateway.runs.ports import Clock, Ledger

_ARRIVES_WITHIN_S: Final = 5.0
"""Longest time between the admission of a run by the ledger and its entry among the live runs."""


@dataclass(slots=True)
class Deduplication:
    """Finds the runs that requests repeat."""

    ledger: Ledger
    live_runs: LiveRuns
    clock: Clock
    ended_runs: EndedRuns
    _keyless: KeylessRetries = field(init=False)

    def __post_init__(self) -> None:
        self._keyless = KeylessRetries(self.clock)

    async def find(self, intake: Intake) -> LiveRun | None:
        """Return the run that a request repeats; None if it is a new one.

        Raises:
            IdempotencyKeyReused: the key belongs to a request that asked for something else.
            AuthenticationError: the peer's grant was used before.
            RunLost: nothing of the run is kept any more.
        """
        if intake.proposal.idempotency_key is not None:
            return await self._find_by_key(intake.proposal.idempotency_key, intake.proposal.grant)
        live = self._keyless.find(intake)
        return await self._rebuild_shed(live) if live is not None and live.is_shed else live

    def list_replaced(self, intake: Intake) -> Sequence[LiveRun]:
        """List the runs under way that a client stopped, and that its new, equal request replaces."""
        return self._keyless.list_replaced(intake)

    def remember(self, intake: Intake, live: LiveRun) -> None:
        """Record which run a request has begun."""
        self._keyless.remember(intake, live)

    def note_received(self, live: LiveRun) -> None:
        """Record that a client has received the end of a run."""
        self._keyless.note_received(live)

    async def _find_by_key(self, key: IdempotencyKey, grant: Grant | None) -> LiveRun | None:
        record = await self.ledger.find_run_of_key(key)
        if record is not None and record.state in LIVE_STATES and await self._wait_for(record) is None:
            # Its caller gave up while it was admitted. If it was closed before it did anything, the key is free again.
            record = await self.ledger.find_run_of_key(key)
        if record is not None and grant is not None:
            record = await self.ledger.find_run_of_key(key, grant)  # not before, because a grant can be used once only
        if record is None:
            return None
        live = self.live_runs.get(record.id)
        if live is None and record.state in LIVE_STATES:
            live = await self._wait_for(record)
        return live or await self.ended_runs.rebuild_or_lose(record)

    async def _wait_for(self, record: RunRecord) -> LiveRun | None:
        """Wait for a run that was admitted a moment ago to become a live one; None if it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVES_WITHIN_S):
                while True:
                    changed = self.live_runs.next_change
                    if (live := self.live_runs.get(record.id)) is not None:
                        return live
                    known = await self.ledger.get_run(record.id)
                    if known is None or known.state not in LIVE_STATES:
                        return None
                    await changed.wait()
        return None

    async def _rebuild_shed(self, shed: LiveRun) -> LiveRun | None:
        """Rebuild a run whose events were dropped; None if its answer is not kept. Of a failure the brief copy is enough."""
        live = await self.ended_runs.rebuild(shed.record)
        if live is None and isinstance(end := shed.events[-1], RunFinished) and isinstance(end.outcome, Failed | Cancelled):
            live = rebuild_run(end, (), self.clock)
        return live
