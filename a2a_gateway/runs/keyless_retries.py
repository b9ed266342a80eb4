"""Requests without an idempotency key that repeat others: which run each of them means.

Most clients repeat a request without saying so, after a timeout or a failure, while the run that they have given up on goes on
and costs money. In memory, of one process: what must survive a restart has an idempotency key, which the ledger keeps. What an
equal request gets depends on what became of the earlier runs:

    the earlier run                                     an equal request, and one that is marked as a retry
    under way, its client is there                      a run of its own; the marked one gets this run
    under way, its client left before any text came     this run
    under way, its client left after text had come      a run of its own, and this one is cancelled; the marked one gets this run
    finished, its client had left before                this run, for a minute; after text had come only the marked one does
    finished, its end was delivered                     a run of its own
    failed after work, or for a reason that stays       the failure, for a minute; each repetition renews it if the run had worked
    failed otherwise (see `rerun`)                      a run of its own

Of several runs the one that was begun first is meant, so that each of several clients that come back gets one of its own.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from a2a_gateway.errors import GatewayError, RunCancelled
from a2a_gateway.runs.events import Cancelled, Failed, Limited, RunFinished
from a2a_gateway.runs.kept_outcome import replay
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import Profile, RunId, RunRequest
from a2a_gateway.runs.ports import Clock
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.retry_rule import REMEDY, has_worked, may_rerun

REMEMBERED_S: Final = 60.0
"""How long a run that has ended is still what a repeated request means."""
_REMEMBERED_RUNS: Final = 1_000
_FAILURE_CHARS: Final = 8 * 1024
"""What is kept of the text of a failed run: as much as an error shows."""


def scope_of(caller: Caller) -> str:
    """Name whose requests are compared with each other, and whose idempotency keys they are."""
    return f"key:{caller.key.id}" if caller.run is None else f"run:{caller.run.id}"


type _RequestKey = tuple[str, str]
"""Scope and fingerprint of a request."""


@dataclass(slots=True, eq=False)
class _Remembered:
    """One run that a repeated request may mean.

    Attributes:
        live: the run, or a brief copy of it that holds only its failure.
        renewed_at: when its failure was last sent again; None if it was not.
    """

    request_key: _RequestKey
    live: LiveRun
    renewed_at: float | None = None


@dataclass(slots=True)
class Retries:
    """The runs of each request; one event loop.

    Bounded: runs under way are as many as the gateway has, runs that have ended at most `_REMEMBERED_RUNS`, the least recently
    asked for forgotten first; of a failure only its error and a piece of text are kept.
    """

    clock: Clock
    _runs: OrderedDict[RunId, _Remembered] = field(default_factory=OrderedDict)
    _by_request: dict[_RequestKey, list[_Remembered]] = field(default_factory=dict)

    def find(self, request: RunRequest, caller: Caller) -> LiveRun | None:
        """Find the run that a request repeats; None if it is a new one."""
        known = self._known(request, caller)
        return self._under_way(known, request) or self._ended(known, request)

    def stopped(self, request: RunRequest, caller: Caller) -> Sequence[LiveRun]:
        """List the runs under way that a client stopped and now asks anew."""
        if request.context.idempotency_key is not None:
            return ()
        runs = [entry.live for entry in self._known(request, caller)]
        return [live for live in runs if live.stopped_by_client and not live.claimed and not live.finished]

    def remember(self, request: RunRequest, caller: Caller, live: LiveRun) -> None:
        """Note which run a request has begun."""
        if not request.fingerprint:
            return
        entry = _Remembered((scope_of(caller), request.fingerprint), live)
        self._runs[live.record.id] = entry
        self._by_request.setdefault(entry.request_key, []).append(entry)
        self._forget_old()

    def delivered(self, live: LiveRun) -> None:
        """Note that a client has received the end of a run; only a failure is then of any further use."""
        is_first, live.delivered = not live.delivered, True
        entry, end = self._runs.get(live.record.id), _end_of(live)
        if entry is None or end is None:
            return
        if _failure(live) is None:
            self._forget(entry)
        elif is_first:
            entry.live = self._brief(live.profile, end)

    def _known(self, request: RunRequest, caller: Caller) -> Sequence[_Remembered]:
        return self._by_request.get((scope_of(caller), request.fingerprint), ()) if request.fingerprint else ()

    def _under_way(self, known: Sequence[_Remembered], request: RunRequest) -> LiveRun | None:
        runs = [entry.live for entry in known if not entry.live.finished and not entry.live.ending]
        for live in runs:
            if live.left and (request.is_marked_retry or not live.stopped_by_client):
                return live
        return runs[-1] if runs and request.is_marked_retry else None

    def _ended(self, known: Sequence[_Remembered], request: RunRequest) -> LiveRun | None:
        for entry in known:
            if entry.live.finished and self._is_recent(entry) and self._is_due_again(entry.live, request):
                if _failure(entry.live) is not None and has_worked(entry.live.record):
                    entry.renewed_at = self.clock.now()
                    self._runs.move_to_end(entry.live.record.id)
                return entry.live
        return None

    def _is_due_again(self, live: LiveRun, request: RunRequest) -> bool:
        """Return whether an ended run is what a request means: its end was not received, or it is a failure to be sent again."""
        is_missed = live.left and not live.delivered and (request.is_marked_retry or not live.stopped_by_client)
        failure = _failure(live)
        if failure is None:
            return is_missed
        # A run that was cancelled because its client had left is no failure that the client knows of.
        is_known = live.delivered or (is_missed and failure is not RunCancelled)
        return is_known and not may_rerun(live.record, failure)

    def _brief(self, profile: Profile, end: RunFinished) -> LiveRun:
        """Copy a failed run as far as it is sent again; it has been delivered."""
        outcome = replace(end.outcome, text=end.outcome.text[:_FAILURE_CHARS])
        if isinstance(outcome, Cancelled):
            outcome = replace(outcome, why=f"{outcome.why} {REMEDY}".lstrip())
        brief = replay(profile, replace(end, outcome=outcome), "", self.clock)
        brief.delivered = True
        return brief

    def _forget_old(self) -> None:
        """Drop what no request can mean any more, and the oldest of what is too much; live runs stand among them and are kept."""
        for entry in list(self._runs.values()):
            if not entry.live.finished:
                continue
            if len(self._runs) <= _REMEMBERED_RUNS and self._is_recent(entry):
                break
            self._forget(entry)

    def _forget(self, entry: _Remembered) -> None:
        del self._runs[entry.live.record.id]
        same = self._by_request[entry.request_key]
        same.remove(entry)
        if not same:
            del self._by_request[entry.request_key]

    def _is_recent(self, entry: _Remembered) -> bool:
        since = entry.renewed_at or entry.live.happened_at[-1]
        return 0 <= self.clock.now() - since <= REMEMBERED_S  # less than nothing: the clock was set back since


def _end_of(live: LiveRun) -> RunFinished | None:
    last = live.events[-1]
    return last if isinstance(last, RunFinished) else None


def _failure(live: LiveRun) -> type[GatewayError] | None:
    match _end_of(live):
        case RunFinished(outcome=Failed(error=error)):
            return type(error)
        case RunFinished(outcome=Limited(text=text, error=error)) if not text.strip():
            return type(error)
        case RunFinished(outcome=Cancelled()):
            return RunCancelled
        case _:
            return None
