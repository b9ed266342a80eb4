"""Finalization: the end of a run, recorded and published.

The order of the steps holds these promises:

    1. `LiveRun.begin_finalization`    no event but the end is published from here on
    2. the ledger closes the run       its token opens no more runs, and its LLM calls get no more money
    3. its descendants are cancelled   they have closed before the end of the run is published
    4. the sums are read again         if there were descendants, because their last calls are in them
    5. the key's throttle is left      the client may send its next request as soon as it has the end
    6. `RunFinished` is published      exactly once, whatever the ledger answers

If the database refuses the write of step 2, the run ends with that error, and the write is tried again until it is accepted
(`write_retries`). If the sums of step 4 cannot be read, the end is published with `cost_complete` False. If anything else fails,
such as an error whose details are not JSON, that failure is recorded in place of the outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, assert_never

import structlog

from a2a_gateway.errors import AgentFailed, GatewayError, RunCancelled, RunLost, StoreError, StoreLost
from a2a_gateway.runs.cancellation import Cancellation
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, Outcome, RunFinished, RunSummary
from a2a_gateway.runs.fault_log import log_fault
from a2a_gateway.runs.journal import JournalEnd
from a2a_gateway.runs.journal_codec import encode_events
from a2a_gateway.runs.kept_outcome import encode_kept_outcome, keep_outcome
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import RunId, RunState, SpendCaps
from a2a_gateway.runs.ports import Ledger
from a2a_gateway.runs.throttle import Throttle
from a2a_gateway.runs.write_retries import WriteRetries
from delegate_tool.protocol.context import OnDisconnect

log = structlog.get_logger(__name__)

_QUICK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Finalization:
    """Ends runs. `journal_bytes`: see `ServicePolicy`."""

    ledger: Ledger
    cancellation: Cancellation
    write_retries: WriteRetries
    throttle: Throttle
    journal_bytes: int

    async def finish(self, live: LiveRun, outcome: Outcome, caps: SpendCaps) -> None:
        """Record the end of a run, cancel everything below it, and publish its outcome with the final sums.

        Args:
            caps: of the run's profile.
        """
        if live.has_ended:
            return
        run_id, has_begun = live.record.id, bool(live.events)
        live.begin_finalization()
        try:
            end = await self._record(live, _explain(live, outcome, has_begun=has_begun), caps, has_begun=has_begun)
        except Exception as error:  # noqa: BLE001  # without an end the listeners would wait for ever
            log_fault(log, "end_not_recorded", run_id=run_id)
            failure = Failed(AgentFailed(f"The run failed inside the gateway ({type(error).__name__})."))
            end = await self._record_fault(live, failure, caps, has_begun=has_begun)
        live.record = end.summary.record
        self.throttle.leave(live.record.key_id, run_id)
        live.publish(end, end.summary.record.ended_at)

    async def discard(self, run_id: RunId) -> None:
        """End a run that was opened for a caller that gave up, as a crash would: its idempotency key may begin another run.

        Raises:
            StoreError: the database refused the write, which is tried again.
        """
        lost = RunLost.code
        await self._write(lambda: self.ledger.close_run(run_id, RunState.LOST, stop_reason=lost, error_code=lost))

    async def _record(self, live: LiveRun, outcome: Outcome, caps: SpendCaps, *, has_begun: bool) -> RunFinished:
        """Record the end of a run and cancel everything below it; a refusal of the ledger becomes the end."""
        run_id = live.record.id
        try:
            summary = await self._close(live, outcome, caps)
            if await self.cancellation.cancel_children(run_id):
                summary = await self._sum_up_again(summary, caps)
        except GatewayError as error:
            # The end is published all the same: the listeners would wait for it without end.
            log.error("run_not_closed", run_id=run_id, code=error.code)  # noqa: TRY400  # the message may quote values
            await self.cancellation.cancel_children(run_id)
            outcome = _explain(live, Failed(error, outcome.text), has_begun=has_begun)
            summary = _provisional_summary(live)
        return RunFinished(outcome, summary)

    async def _record_fault(self, live: LiveRun, failure: Failed, caps: SpendCaps, *, has_begun: bool) -> RunFinished:
        """Record that a run failed inside the gateway; if that fails too, the next start records the run as lost."""
        try:
            return await self._record(live, failure, caps, has_begun=has_begun)
        except Exception:  # noqa: BLE001  # it is logged
            log_fault(log, "run_not_closed", run_id=live.record.id)
            await self.cancellation.cancel_children(live.record.id)
            return RunFinished(failure, _provisional_summary(live))

    async def _close(self, live: LiveRun, outcome: Outcome, caps: SpendCaps) -> RunSummary:
        state, reason, code = _describe_end(outcome)
        run_id, kept_outcome = live.record.id, _encode_if_kept(live, outcome)
        journal = await self._end_journal(live, outcome)
        return await self._write(
            lambda: self.ledger.close_run(
                run_id,
                state,
                stop_reason=reason,
                error_code=code,
                answer=kept_outcome,
                journal=journal,
                caps=caps,
            )
        )

    async def _end_journal(self, live: LiveRun, outcome: Outcome) -> JournalEnd | None:
        """Encode the events of a run for its journal; in a thread if they are so long that other runs would wait."""
        if not self.journal_bytes:
            return None
        events = (live.events, live.happened_at, outcome, self.journal_bytes)
        is_quick = live.event_bytes <= _QUICK_BYTES
        encoded = encode_events(*events) if is_quick else await asyncio.to_thread(encode_events, *events)
        return JournalEnd(live.workspace_dir or None, encoded)

    async def _sum_up_again(self, summary: RunSummary, caps: SpendCaps) -> RunSummary:
        """Read what a run has cost with the calls of its descendants, which were cancelled after it was closed."""
        try:
            return await self.ledger.summary(summary.record.id, caps) or summary
        except StoreError:  # the end is recorded, and is published as such; the sums are booked later
            return replace(summary, record=replace(summary.record, cost_complete=False))

    async def _write(self, close: Callable[[], Awaitable[RunSummary]]) -> RunSummary:
        try:
            return await close()
        except StoreError:
            self.write_retries.add(close)
            raise


def _provisional_summary(live: LiveRun) -> RunSummary:
    return RunSummary(replace(live.record, cost_complete=False))


def _encode_if_kept(live: LiveRun, outcome: Outcome) -> str | None:
    """Encode the outcome of a run that may be requested after its end; return None for any other run.

    A run may be requested again if it has an idempotency key, if no client is attached, or if it continues without one.
    """
    if live.has_idempotency_key or live.is_abandoned or live.on_disconnect is OnDisconnect.CONTINUE:
        return encode_kept_outcome(keep_outcome(outcome, live.events))
    return None


def _explain(live: LiveRun, outcome: Outcome, *, has_begun: bool) -> Outcome:
    """Add the reason of a cancellation, and make a database failure of a run that has begun final: a repetition cannot help."""
    match outcome:
        case Cancelled() if live.cancel_reason:
            return replace(outcome, why=live.cancel_reason)
        case Failed(error=StoreError() as error, text=text) if has_begun:
            message = f"{error.message} The run broke off; what it had used by then is booked as soon as that is possible."
            return Failed(StoreLost(message, details=error.details), text)
        case _:
            return outcome


def _describe_end(outcome: Outcome) -> tuple[RunState, str, str | None]:
    """Return what the ledger records of an outcome: state, stop reason, error code."""
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
