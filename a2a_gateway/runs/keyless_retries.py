"""Find the run that a request without an idempotency key repeats.

Most clients repeat a request unmarked, after a timeout or a failure, while its first run continues and costs money. Runs are
remembered in the memory of this process; a request that must be recognised after a restart needs an idempotency key, which the
ledger keeps. What an equal request gets depends on the state of the earlier run:

    the earlier run                                     an equal request, and one that is marked as a retry
    under way, its client is attached                   a run of its own; the marked one gets this run
    under way, its client left before any text came     this run
    under way, its client left after text had come      a run of its own, and this one is cancelled; the marked one gets this run
    finished, its client had left before                this run, for a minute; after text had come only the marked one does
    finished, its end was received                      a run of its own
    failed after work, or for a permanent reason        the failure, for a minute; each repetition renews it if the run had worked
    failed otherwise (see `retry_rule`)                 a run of its own

Of several equal runs, the one that began first is returned. So if several clients return, each gets a run of its own.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from a2a_gateway.errors import GatewayError, RunCancelled
from a2a_gateway.runs.ended_runs import rebuild_run
from a2a_gateway.runs.events import Cancelled, Failed, Limited, RunFinished
from a2a_gateway.runs.intake import Intake, RequestIdentity
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import RunId, RunRequest
from a2a_gateway.runs.ports import Clock
from a2a_gateway.runs.retry_rule import REMEDY, has_worked, may_rerun

REMEMBERED_S: Final = 60.0
"""How long after its end a run is still what an equal request means."""
_REMEMBERED_RUNS: Final = 1_000
_FAILURE_CHARS: Final = 8 * 1024
"""Length to which the text of a failed run is cut: about as much as an error contains (`wire.errors.PARTIAL_BYTES`)."""


@dataclass(slots=True, eq=False)
class _RememberedRun:
    """One run that an equal request may mean.

    Attributes:
        live: the run, or a brief copy of it that holds only its failure.
        renewed_at: when its failure was last sent again; None if it was not.
    """

    identity: RequestIdentity
    live: LiveRun
    renewed_at: float | None = None


@dataclass(slots=True)
class KeylessRetries:
    """The runs of each request identity. Belongs to one event loop.

    Bounded: runs under way are as many as the gateway has; runs that have ended are at most `_REMEMBERED_RUNS`, and the least
    recently requested is forgotten first. Of a failure only its error and a piece of text are kept.
    """

    clock: Clock
    _runs: OrderedDict[RunId, _RememberedRun] = field(default_factory=OrderedDict)
    _by_identity: dict[RequestIdentity, list[_RememberedRun]] = field(default_factory=dict)

    def find(self, intake: Intake) -> LiveRun | None:
        """Return the run that a request repeats; None if it is a new one."""
        equal = self._list_equal(intake)
        return _find_under_way(equal, intake.request) or self._find_ended(equal, intake.request)

    def list_replaced(self, intake: Intake) -> Sequence[LiveRun]:
        """List the runs under way that a client stopped, and that its new, equal request replaces."""
        if intake.proposal.idempotency_key is not None:
            return ()
        runs = [entry.live for entry in self._list_equal(intake)]
        return [live for live in runs if live.was_stopped_by_client and not live.has_idempotency_key and not live.has_ended]

    def remember(self, intake: Intake, live: LiveRun) -> None:
        """Record which run a request has begun."""
        if intake.identity is None:
            return
        entry = _RememberedRun(intake.identity, live)
        self._runs[live.record.id] = entry
        self._by_identity.setdefault(entry.identity, []).append(entry)
        self._forget_old()

    def note_received(self, live: LiveRun) -> None:
        """Record that a client has received the end of a run. From then on only a failure is sent again."""
        is_first = not live.was_received
        live.receive_end()
        entry, end = self._runs.get(live.record.id), _end_of(live)
        if entry is None or end is None:
            return
        if _failure_of(live) is None:
            self._forget(entry)
        elif is_first:
            entry.live = self._copy_failure(end)

    def _list_equal(self, intake: Intake) -> Sequence[_RememberedRun]:
        return self._by_identity.get(intake.identity, ()) if intake.identity else ()

    def _find_ended(self, equal: Sequence[_RememberedRun], request: RunRequest) -> LiveRun | None:
        for entry in equal:
            if entry.live.has_ended and self._is_recent(entry) and _is_meant(entry.live, request):
                if _failure_of(entry.live) is not None and has_worked(entry.live.record):
                    entry.renewed_at = self.clock.now()
                    self._runs.move_to_end(entry.live.record.id)
                return entry.live
        return None

    def _copy_failure(self, end: RunFinished) -> LiveRun:
        """Return a brief copy of a failed run whose end was received: its error, and the start of its text."""
        outcome = replace(end.outcome, text=end.outcome.text[:_FAILURE_CHARS])
        if isinstance(outcome, Cancelled):
            outcome = replace(outcome, why=f"{outcome.why} {REMEDY}".lstrip())
        brief = rebuild_run(replace(end, outcome=outcome), (), self.clock)
        brief.receive_end()
        return brief

    def _forget_old(self) -> None:
        """Forget runs that ended too long ago, and the oldest ended ones beyond the bound."""
        for entry in list(self._runs.values()):
            if not entry.live.has_ended:
                continue
            if len(self._runs) <= _REMEMBERED_RUNS and self._is_recent(entry):
                break
            self._forget(entry)

    def _forget(self, entry: _RememberedRun) -> None:
        del self._runs[entry.live.record.id]
        equal = self._by_identity[entry.identity]
        equal.remove(entry)
        if not equal:
            del self._by_identity[entry.identity]

    def _is_recent(self, entry: _RememberedRun) -> bool:
        since = entry.renewed_at or entry.live.happened_at[-1]
        return 0 <= self.clock.now() - since <= REMEMBERED_S  # negative if the clock was set back


def _find_under_way(equal: Sequence[_RememberedRun], request: RunRequest) -> LiveRun | None:
    runs = [entry.live for entry in equal if not entry.live.is_ending]
    for live in runs:
        if live.has_left and (request.is_marked_retry or not live.was_stopped_by_client):
            return live
    return runs[-1] if runs and request.is_marked_retry else None


def _is_meant(live: LiveRun, request: RunRequest) -> bool:
    """Return whether a request gets an ended run: its end was not received, or it is a failure to be sent again."""
    is_missed = live.has_left and not live.was_received and (request.is_marked_retry or not live.was_stopped_by_client)
    failure = _failure_of(live)
    if failure is None:
        return is_missed
    # A client that left does not know that its run was cancelled for that.
    is_known = live.was_received or (is_missed and failure is not RunCancelled)
    return is_known and not may_rerun(live.record, failure)


def _end_of(live: LiveRun) -> RunFinished | None:
    last = live.events[-1]
    return last if isinstance(last, RunFinished) else None


def _failure_of(live: LiveRun) -> type[GatewayError] | None:
    match _end_of(live):
        case RunFinished(outcome=Failed(error=error)):
            return type(error)
        case RunFinished(outcome=Limited(text=text, error=error)) if not text.strip():
            return type(error)
        case RunFinished(outcome=Cancelled()):
            return RunCancelled
        case _:
            return None
