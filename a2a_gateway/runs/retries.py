"""Requests that are repeats of others: which run each of them means.

Most clients repeat a request without saying so, after a timeout or a failure, while the run that they have given up on goes on
and costs money. So a request equal to one whose client has left gets that run, and one that failed a moment ago in a way that no
repetition cures gets the same failure. Two equal requests whose clients are both there are two runs. In memory, of one process:
what must survive a restart has an idempotency key, which the ledger keeps.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from a2a_gateway.errors import GatewayError, InternalError, LLMUnavailable, NotReady, RunCancelled, RunLost, StoreError
from a2a_gateway.runs.events import Failed, Limited, RunFinished
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.runs.ports import Clock
from a2a_gateway.runs.proposal import Caller

REMEMBERED_S: Final = 60.0
"""How long a run that has ended is still what a repeated request means."""
_REMEMBERED_RUNS: Final = 1_000
_CURED_BY_TIME: Final = (InternalError, LLMUnavailable, NotReady, RunCancelled, RunLost, StoreError)


def scope_of(caller: Caller) -> str:
    """Name whose requests are compared with each other, and whose idempotency keys they are."""
    return f"key:{caller.key.id}" if caller.run is None else f"run:{caller.run.id}"


@dataclass(slots=True)
class Retries:
    """The latest run of each request; one event loop."""

    clock: Clock
    _runs: OrderedDict[tuple[str, str], LiveRun] = field(default_factory=OrderedDict)

    def find(self, request: RunRequest, caller: Caller) -> LiveRun | None:
        """Find the run that a request repeats; None if it is a new one."""
        live = self._runs.get((scope_of(caller), request.fingerprint)) if request.fingerprint else None
        if live is None:
            return None
        if live.finished:
            return live if self._is_due_again(live) else None
        return live if (live.left or request.is_marked_retry) and not live.ending else None

    def remember(self, request: RunRequest, caller: Caller, live: LiveRun) -> None:
        """Note which run a request has begun."""
        if not request.fingerprint:
            return
        self._runs.pop(key := (scope_of(caller), request.fingerprint), None)
        self._runs[key] = live
        self._forget_old()

    def delivered(self, live: LiveRun) -> None:
        """Note that a client has received the end of a run; only a failure is then of any further use."""
        live.delivered = True
        if _failure(live) is None:
            for key in [key for key, run in self._runs.items() if run is live]:
                del self._runs[key]

    def _is_due_again(self, live: LiveRun) -> bool:
        """Whether a run that has ended is to be told again: nobody has heard of its end, or it would only fail once more."""
        ended_at = live.record.ended_at
        if ended_at is None or not self._is_recent(ended_at):
            return False
        failure = _failure(live)
        if failure is not None:
            return not failure.retryable and not isinstance(failure, _CURED_BY_TIME)
        return live.left and not live.delivered and not live.cancelled.is_set()

    def _forget_old(self) -> None:
        """Drop what no request can mean any more, and the oldest of what is too much; live runs stand among them and are kept."""
        for key, live in list(self._runs.items()):
            if not live.finished:
                continue
            if len(self._runs) <= _REMEMBERED_RUNS and self._is_recent(live.record.ended_at or 0.0):
                break
            del self._runs[key]

    def _is_recent(self, ended_at: float) -> bool:
        return 0 <= self.clock.now() - ended_at <= REMEMBERED_S  # less than nothing: the clock was set back since


def _failure(live: LiveRun) -> GatewayError | None:
    match live.events[-1]:
        case RunFinished(outcome=Failed(error=error)):
            return error
        case RunFinished(outcome=Limited(text=text, error=error)) if not text.strip():
            return error
        case _:
            return None
