"""Attachments: clients listening to runs. Every door begins and follows runs through this module; so can code in this process.

    async with attach(service, request, caller) as run:
        async for event in run:
            ...

An attachment covers a client's whole interest in one run:

    step       what happens
    start      a run is admitted and begins, or the earlier run that the request repeats is found (`is_replay`)
    listen     events arrive from the first one on, however late the client attaches
    deliver    the client has the outcome: the scope was left without an exception after the last event was taken
    leave      the client left before the end: if no other client listens, the run is cancelled after a grace (`cancellation`)

`watch` reads the same events without attaching: a run does not depend on its watchers.

The end of a failed run is passed on with the error for its caller: `retry_rule` forbids the retry if the run has worked. So doors
only render.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from a2a_gateway.runs.events import Failed, Limited, RunEvent, RunFinished
from a2a_gateway.runs.live import Listener, LiveRun
from a2a_gateway.runs.model import RunRecord, RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.retry_rule import final_error
from a2a_gateway.runs.service import RunService


@dataclass(slots=True)
class Attachment:
    """One reader of one run. Made by `attach` and `watch`.

    Attributes:
        is_replay: whether an earlier request has begun the run.
        has_ended: whether the last event has been taken.
    """

    is_replay: bool
    has_ended: bool = field(default=False, init=False)
    _live: LiveRun
    _listener: Listener

    @property
    def record(self) -> RunRecord:
        """The run's record as it stands now."""
        return self._live.record

    async def take(self, timeout_s: float | None = None) -> Sequence[RunEvent]:
        """Wait for new events and return all of them; an empty sequence after `timeout_s` without any."""
        events = await self._listener.take(timeout_s)
        if events and isinstance(last := events[-1], RunFinished):
            self.has_ended = True
            return [*events[:-1], for_client(last)]
        return events

    async def __aiter__(self) -> AsyncIterator[RunEvent]:
        """Iterate over the events up to `RunFinished`."""
        while not self.has_ended:
            for event in await self.take():
                yield event

    def record_content_sent(self) -> None:
        """Record that text of the answer was written to the client. If it leaves from now on, a person has pressed stop."""
        self._live.receive_text()


@asynccontextmanager
async def attach(service: RunService, request: RunRequest, caller: Caller) -> AsyncIterator[Attachment]:
    """Begin a run, or find the one that the request repeats, and listen to it.

    Raises:
        GatewayError: the run was not admitted.
    """
    live, is_replay = await service.start(request, caller)
    with live.listen() as listener:
        attachment = Attachment(is_replay, live, listener)
        yield attachment
    if attachment.has_ended:
        service.deduplication.note_received(live)


@contextmanager
def watch(live: LiveRun, position: int) -> Iterator[Attachment]:
    """Read the events of a run from a position on, at most the number of events so far, without keeping the run alive."""
    with live.watch(position) as watcher:
        watching = Attachment(is_replay=True, _live=live, _listener=watcher)
        watching.has_ended = live.has_ended and position == len(live.events)
        yield watching


def for_client(finished: RunFinished) -> RunFinished:
    """Return the end of a run as its client gets it: a failure after work carries an error that forbids the retry."""
    outcome, record = finished.outcome, finished.summary.record
    match outcome:
        case Failed(error=error) | Limited(error=error):
            return replace(finished, outcome=replace(outcome, error=final_error(error, record)))
        case _:
            return finished
