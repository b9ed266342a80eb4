"""Ended runs: read their ends from memory or from the ledger, and rebuild them for clients that read them again.

    where                          what                                  how long
    `LiveRuns`, not shed           all events                            about ten minutes, if no client received the end
    the ledger's kept outcome      outcome and output                    `idempotency_ttl_s`
    the ledger's run record        state and cost                        until the retention removes the run

An outcome is kept in the ledger for a run with an idempotency key, and for one whose client had left (`finalization`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from a2a_gateway.errors import RunLost, RunNotFound
from a2a_gateway.runs.events import ContentDelta, Failed, Finished, Limited, ReasoningDelta, RunFinished, RunStarted
from a2a_gateway.runs.kept_outcome import MessageItem, OutputItem, decode_kept_outcome
from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import RunRecord
from a2a_gateway.runs.ports import Clock, Ledger
from delegate_tool.protocol.context import OnDisconnect


@dataclass(frozen=True, slots=True)
class EndedRuns:
    """Reads what is kept of ended runs."""

    ledger: Ledger
    live_runs: LiveRuns
    clock: Clock

    async def get_end(self, record: RunRecord) -> RunFinished | None:
        """Return the end of a run that has ended; None if it is not kept."""
        live = self.live_runs.get_ended(record.id)
        if live is not None and isinstance(last := live.events[-1], RunFinished):
            return last
        kept = await self._read(record)
        return None if kept is None else kept[0]

    async def follow(self, record: RunRecord) -> LiveRun:
        """Return a run to watch: live, ended a moment ago, or rebuilt from what is kept of its end.

        Raises:
            RunNotFound: the run has ended, and nothing of it is kept.
        """
        live = self.live_runs.get(record.id) or self.live_runs.get_ended(record.id) or await self.rebuild(record)
        if live is None:
            raise RunNotFound(
                f"The events of run {record.id} are not kept any more. Those of a run under way are, and the end of one with "
                "an idempotency key, or whose client had left."
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
        error = RunLost(
            f"Run {record.id} was cut short by a crash of the gateway, or its answer is no longer kept. Send the request "
            "with another idempotency key to run it again.",
            details={"run_id": record.id, "tree_id": record.tree_id, "turns": record.turns},
        )
        summary = await self.ledger.summary(record.id)
        if summary is None:
            raise error
        return rebuild_run(RunFinished(Failed(error), summary), (), self.clock)

    async def _read(self, record: RunRecord) -> tuple[RunFinished, Sequence[OutputItem]] | None:
        summary, text = await self.ledger.summary(record.id), await self.ledger.answer_of(record.id)
        kept = None if text is None else decode_kept_outcome(text)
        return None if summary is None or kept is None else (RunFinished(kept.outcome, summary), kept.output)


def rebuild_run(end: RunFinished, output: Sequence[OutputItem], clock: Clock) -> LiveRun:
    """Rebuild an ended run from its end and its output.

    A failure has no deltas before it: its text is in the error (`partial`), and a response that begins with the failure has an
    HTTP status and `x-should-retry`, also where the request asks for a stream.
    """
    record = end.summary.record
    live = LiveRun(record, OnDisconnect.CONTINUE, lambda _: None, clock)
    live.publish(RunStarted(record))
    if isinstance(end.outcome, Finished | Limited):
        for item in output:
            live.publish(ContentDelta(item.text) if isinstance(item, MessageItem) else ReasoningDelta(item.text))
    live.begin_finalization()
    live.publish(end)
    live.close()
    return live
