"""Ended runs: read their ends from memory or from the ledger, and rebuild them for clients that read them again.

    where                          what                                  how long
    `LiveRuns`, not shed           all events                            about ten minutes, if no client received the end
    the ledger's kept outcome      outcome and output                    `idempotency_ttl_s`
    its journal                    outcome and events, within bounds     as long as its record
    the ledger's run record        state and cost                        until the retention removes the run

An outcome is kept in the ledger for a run with an idempotency key, and for one whose client had left (`finalization`): a request
that comes twice gets the whole answer, however long it is. A journal is for those who look at a run.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from a2a_gateway.errors import RunLost, RunNotFound
from a2a_gateway.runs.events import (
    ContentDelta,
    EventsOmitted,
    Failed,
    Finished,
    Limited,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    RunSummary,
)
from a2a_gateway.runs.journal import Journals
from a2a_gateway.runs.journal_codec import decode_end, decode_events
from a2a_gateway.runs.kept_outcome import MessageItem, OutputItem, decode_kept_outcome
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import LIVE_STATES, RunRecord, RunState
from a2a_gateway.runs.ports import Clock
from a2a_gateway.runs.run_queries import RunQueries
from delegate_tool.protocol.context import OnDisconnect

_QUICK_CHARS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class EndedRuns:
    """Reads what is kept of ended runs."""

    ledger: RunQueries
    journals: Journals
    live_runs: LiveRuns
    clock: Clock

    async def get_end(self, record: RunRecord) -> RunFinished | None:
        """Return the end of a run that has ended; None if it is not kept."""
        live = self.live_runs.get_ended(record.id)
        if live is not None and isinstance(last := live.events[-1], RunFinished):
            return last
        kept = await self._read(record)
        if kept is not None:
            return kept[0]
        journal = await self._read_journal(record)
        if journal is None:
            return None
        summary, encoded = journal
        if encoded is None:
            return RunFinished(Failed(_lose(record)), summary)
        end = await _decode(decode_end, encoded)
        return None if end is None else RunFinished(end.outcome, summary, end.is_truncated)

    async def follow(self, record: RunRecord) -> LiveRun:
        """Return a run to watch: live, ended a moment ago, or replayed from what is kept of it.

        Raises:
            RunNotFound: the run has ended, and nothing of it is kept.
        """
        live = self.live_runs.get(record.id) or self.live_runs.get_ended(record.id)
        live = live or await self._replay(record) or await self.rebuild(record)
        if live is None:
            raise RunNotFound(
                f"The events of run {record.id} are not kept. Those of ended runs are if journal_bytes (A2A_JOURNAL_BYTES) is "
                "more than 0 while they run."
            )
        return live

    async def rebuild(self, record: RunRecord) -> LiveRun | None:
        """Rebuild a run from the outcome that the ledger keeps; None if it keeps none."""
        kept = await self._read(record)
        return None if kept is None else rebuild_run(*kept, self.clock)

    async def rebuild_or_lose(self, record: RunRecord) -> LiveRun:
        """Rebuild a run as `rebuild` does; if no outcome is kept, as one that failed with `RunLost`, with what it has cost.

        Raises:
            RunLost: not even its record is kept.
        """
        live = await self.rebuild(record)
        if live is not None:
            return live
        error, summary = _lose(record), await self.ledger.summary(record.id)
        if summary is None:
            raise error
        return rebuild_run(RunFinished(Failed(error), summary), (), self.clock)

    async def _replay(self, record: RunRecord) -> LiveRun | None:
        """Replay an ended run from its journal; None if there are no events in it, unless a crash has lost them."""
        journal = await self._read_journal(record)
        if journal is None:
            return None
        summary, encoded = journal
        if encoded is None:
            return rebuild_run(RunFinished(Failed(_lose(record)), summary), (), self.clock)
        return await _decode(lambda text: replay_run(text, summary, self.clock), encoded)

    async def _read_journal(self, record: RunRecord) -> tuple[RunSummary, str | None] | None:
        """Read the final sums of an ended run and its events, which are None if a crash has lost them; None without a journal."""
        summary, journal = await self.ledger.summary(record.id), await self.journals.get(record.id)
        if summary is None or journal is None or summary.record.state in LIVE_STATES:
            return None
        if journal.events is None and summary.record.state is not RunState.LOST:
            return None
        return summary, journal.events

    async def _read(self, record: RunRecord) -> tuple[RunFinished, Sequence[OutputItem]] | None:
        summary, text = await self.ledger.summary(record.id), await self.ledger.answer_of(record.id)
        kept = None if text is None else decode_kept_outcome(text)
        return None if summary is None or kept is None else (RunFinished(kept.outcome, summary), kept.output)


async def _decode[T](decode: Callable[[str], T], encoded: str) -> T:
    """Decode events; in a thread if they are so long that other runs would wait."""
    return decode(encoded) if len(encoded) <= _QUICK_CHARS else await asyncio.to_thread(decode, encoded)


def _lose(record: RunRecord) -> RunLost:
    return RunLost(
        f"Run {record.id} was cut short by a crash of the gateway, or its answer is no longer kept. Send the request "
        "with another idempotency key to run it again.",
        details={"run_id": record.id, "tree_id": record.tree_id, "turns": record.turns},
    )


def replay_run(encoded: str, summary: RunSummary, clock: Clock) -> LiveRun | None:
    """Replay an ended run from its encoded events, with numbers and times; None if a later version has encoded them."""
    kept = decode_events(encoded, summary.record)
    if kept is None:
        return None
    live = LiveRun(summary.record, OnDisconnect.CONTINUE, lambda _: None, clock, omitted=kept.omitted)
    for event, at in zip(kept.events, kept.happened_at, strict=True):
        live.publish(event, at)
    if kept.omitted:
        live.publish(EventsOmitted(kept.omitted), kept.happened_at[-1])
    live.begin_finalization()
    live.publish(RunFinished(kept.end.outcome, summary, kept.end.is_truncated), summary.record.ended_at)
    live.close()
    return live


def rebuild_run(end: RunFinished, output: Sequence[OutputItem], clock: Clock) -> LiveRun:
    """Rebuild an ended run from its end and its output.

    A failure has no deltas before it: its text is in the error (`partial`), and a response that begins with the failure has an
    HTTP status and `x-should-retry`, also where the request asks for a stream.
    """
    record = end.summary.record
    live = LiveRun(record, OnDisconnect.CONTINUE, lambda _: None, clock, is_renumbered=True)
    live.publish(RunStarted(record), record.created_at if record.started_at is None else record.started_at)
    if isinstance(end.outcome, Finished | Limited):
        for item in output:
            live.publish(ContentDelta(item.text) if isinstance(item, MessageItem) else ReasoningDelta(item.text), record.ended_at)
    live.begin_finalization()
    live.publish(end, record.ended_at)
    live.close()
    return live
