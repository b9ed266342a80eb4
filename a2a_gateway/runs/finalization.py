"""The end of a run: closed in the ledger, everything below it stopped, its outcome told.

Above it stands the run service; below it the ledger, and the backlog for what the database does not take at once.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from a2a_gateway.errors import GatewayError, RunCancelled, RunLost, StoreError, StoreLost
from a2a_gateway.runs.cancellation import Stopping
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome, RunFinished, RunSummary
from a2a_gateway.runs.kept_outcome import encode_answer, reasoning_of
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import RunId, RunState, SpendCaps
from a2a_gateway.runs.ports import Ledger
from a2a_gateway.runs.throttle import Throttle
from a2a_gateway.runs.write_retries import Backlog
from delegate_tool.protocol.context import OnDisconnect

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Closing:
    """Ends runs."""

    ledger: Ledger
    stopping: Stopping
    backlog: Backlog
    throttle: Throttle

    async def finish(self, live: LiveRun, outcome: Outcome) -> None:
        """Close the run, which revokes its token; stop everything below it; then tell its outcome with the final sums."""
        if live.finished:
            return
        run_id, live.closing, begun = live.record.id, True, bool(live.events)
        outcome = _as_told(live, outcome, begun=begun)
        try:
            summary = await self.close(run_id, outcome, live.profile.caps, _kept(live, outcome))
            if await self.stopping.cancel_children(run_id):
                summary = await self._summed_up_again(summary, live.profile.caps)
        except GatewayError as error:
            # Whoever listens must hear of the end, whatever the ledger says, or would wait for ever.
            log.error("run_not_closed", run_id=run_id, code=error.code)  # noqa: TRY400  # the message may quote values
            await self.stopping.cancel_children(run_id)
            outcome = _as_told(live, Failed(error, outcome.text), begun=begun)
            summary = RunSummary(replace(live.record, cost_complete=False))
        live.record = summary.record
        self.throttle.leave(live.record.key_id, run_id)
        live.publish(RunFinished(outcome, summary))

    async def _summed_up_again(self, summary: RunSummary, caps: SpendCaps) -> RunSummary:
        """Read what a run has cost with the calls of its children, which were stopped after it was closed."""
        try:
            return await self.ledger.summary(summary.record.id, caps) or summary
        except StoreError:  # its end is recorded, and so is told; the sums are booked later
            return replace(summary, record=replace(summary.record, cost_complete=False))

    async def close(self, run_id: RunId, outcome: Outcome, caps: SpendCaps, answer: str | None = None) -> RunSummary:
        """End a run in the ledger: now, or else, where the database does not take it, as soon as it does.

        Raises:
            StoreError: it was not taken yet.
        """
        state, reason, code = _closing(outcome)
        return await self._write(
            lambda: self.ledger.close_run(run_id, state, stop_reason=reason, error_code=code, answer=answer, caps=caps)
        )

    async def discard(self, run_id: RunId) -> None:
        """End a run that was opened for nobody, as one that a crash has cut short: its idempotency key may then begin another.

        Raises:
            StoreError: it was not taken yet.
        """
        lost = RunLost.code
        await self._write(lambda: self.ledger.close_run(run_id, RunState.LOST, stop_reason=lost, error_code=lost))

    async def _write(self, close: Callable[[], Awaitable[RunSummary]]) -> RunSummary:
        try:
            return await close()
        except StoreError:
            self.backlog.add(close)
            raise


def _kept(live: LiveRun, outcome: Outcome) -> str | None:
    """What somebody may ask for after the end: with an idempotency key, or because nobody is there to hear it."""
    if live.claimed or live.abandoned or live.on_disconnect is OnDisconnect.CONTINUE:
        return encode_answer(outcome, reasoning_of(live))
    return None


def _as_told(live: LiveRun, outcome: Outcome, *, begun: bool) -> Outcome:
    """Say why a run was cancelled; and of a failure of the database, once a run has begun, that a repetition does not mend it."""
    match outcome:
        case Cancelled() if live.why:
            return replace(outcome, why=live.why)
        case Failed(error=StoreError() as error, text=text) if begun:
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
