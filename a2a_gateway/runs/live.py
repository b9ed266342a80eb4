"""Runs that are under way in this process: their events so far, who listens, and how they hang together.

Events are kept until a run is forgotten, so that whoever attaches later sees them from the first. One event loop; no locks.

A run that ended with no client there keeps its events for one that comes back, within the bounds of number, bytes and age below.
After that it is shed: only its record and a piece of its text are left, and its end is read from the ledger.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from a2a_gateway.runs.events import ContentDelta, ReasoningDelta, RunEvent, RunFinished
from a2a_gateway.runs.model import Profile, RunId, RunRecord
from a2a_gateway.runs.ports import Clock
from a2a_gateway.runs.signal import Notice
from delegate_tool.protocol.context import OnDisconnect

_ENDED_RUNS: Final = 100
_ENDED_BYTES: Final = 64 * 1024 * 1024
_ENDED_S: Final = 600.0
_EVENT_BYTES: Final = 200
"""What an event takes in memory beside its text, about."""
_SHED_CHARS: Final = 8 * 1024


@dataclass(slots=True, eq=False)
class LiveRun:
    """One run.

    Attributes:
        claimed: whether an idempotency key stands for it.
        delivered: whether a client has received its end.
        content_delivered: whether text of its answer has been written to a client's socket.
        times_left: how often its last listener has left.
        workspace_dir: where its tools work; known once it has started.
        happened_at: of each event, in seconds since the epoch.
        held_bytes: what its events take in memory, about.
        is_shed: its events were dropped, all but a brief copy of the last.
        cancelled: set when it was asked to stop; `why` is a sentence for its caller, where there is a reason to tell.
        closing: its end is being written; what it delegates from here on comes too late.
        closed: set when nothing of it is left but its slot: outcome told, descendants ended, conversation saved.
        actors: the agents that led to it, root first, its own last.
        trail: the marks of their tasks, its own last.
        on_abandoned: called when its last listener leaves before its end.
    """

    record: RunRecord
    profile: Profile
    on_disconnect: OnDisconnect
    on_abandoned: Callable[["LiveRun"], None]
    clock: Clock
    claimed: bool = False
    actors: tuple[str, ...] = ()
    trail: tuple[str, ...] = ()
    delivered: bool = False
    content_delivered: bool = False
    times_left: int = 0
    workspace_dir: str | None = None
    events: list[RunEvent] = field(default_factory=list)
    happened_at: list[float] = field(default_factory=list)
    held_bytes: int = 0
    is_shed: bool = False
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    closing: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _listeners: set["Listener"] = field(default_factory=set)
    _watchers: set["Listener"] = field(default_factory=set)

    @property
    def ending(self) -> bool:
        """Whether it was asked to stop, or has stopped."""
        return self.closing or self.cancelled.is_set()

    @property
    def finished(self) -> bool:
        """Whether its last event has been published."""
        return bool(self.events) and isinstance(self.events[-1], RunFinished)

    @property
    def abandoned(self) -> bool:
        """Whether nobody listens any more."""
        return not self._listeners

    @property
    def left(self) -> bool:
        """Whether its client has gone; before a run has its first listener, nobody has left it yet."""
        return self.abandoned and self.times_left > 0

    @property
    def stopped_by_client(self) -> bool:
        """Whether its client left after it had received text: a person pressed stop, rather than a connection was lost."""
        return self.left and self.content_delivered and self.on_disconnect is OnDisconnect.CANCEL

    def publish(self, event: RunEvent) -> None:
        """Append an event and wake all listeners."""
        self.events.append(event)
        self.happened_at.append(self.clock.now())
        self.held_bytes += _held_bytes(event)
        for listener in (*self._listeners, *self._watchers):
            listener.wake.set()

    @contextmanager
    def listen(self) -> Iterator["Listener"]:
        """Follow the events from the first on; leaving before `RunFinished` abandons the run if nobody else listens."""
        listener = Listener(self.events)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if self.abandoned:
                self.leave()

    def leave(self) -> None:
        """Take note that the last one who listened, or was about to, has gone."""
        self.times_left += 1
        if not self.finished:
            self.on_abandoned(self)

    @property
    def is_read(self) -> bool:
        """Whether a client listens or watches."""
        return bool(self._listeners or self._watchers)

    def shed(self) -> None:
        """Drop the events of a run that has ended and is not read, all but a brief copy of the last one."""
        *_, last = self.events
        if isinstance(last, RunFinished):
            last = replace(last, outcome=replace(last.outcome, text=last.outcome.text[:_SHED_CHARS]))
        self.events, self.happened_at, self.is_shed = [last], self.happened_at[-1:], True
        self.held_bytes = _held_bytes(last)

    @contextmanager
    def watch(self, position: int) -> Iterator["Listener"]:
        """Follow the events from a position on, without being one for whom it runs."""
        watcher = Listener(self.events, position=position)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


@dataclass(slots=True, eq=False)
class Listener:
    """One reader's position in the events of a run."""

    events: Sequence[RunEvent]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    position: int = 0

    async def take(self, timeout_s: float | None = None) -> Sequence[RunEvent]:
        """Wait for new events and return all there are; none after `timeout_s` of silence."""
        if self.position == len(self.events):
            self.wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.wake.wait()
        fresh = self.events[self.position :]
        self.position += len(fresh)
        return fresh


@dataclass(slots=True)
class LiveRuns:
    """The runs under way, by id, and as trees."""

    _by_id: dict[RunId, LiveRun] = field(default_factory=dict)
    _ended: deque[LiveRun] = field(default_factory=deque)
    _changed: Notice = field(default_factory=Notice)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._by_id.values()))

    def get(self, run_id: RunId | None) -> LiveRun | None:
        """Find a run; None for none."""
        return self._by_id.get(run_id) if run_id is not None else None

    def add(self, live: LiveRun) -> None:
        """Enter a run that was just admitted."""
        self._by_id[live.record.id] = live
        self._changed.tell()

    def discard(self) -> None:
        """Take note that a run that was admitted a moment ago does not come."""
        self._changed.tell()

    @property
    def changed(self) -> asyncio.Event:
        """Set when the next run is entered, or does not come; see `Notice.next`."""
        return self._changed.next

    def forget(self, live: LiveRun) -> None:
        """Drop a run of which nothing is left, and tell those who wait for that."""
        del self._by_id[live.record.id]
        live.closed.set()
        if live.finished:
            self._ended.append(live)
            self.shed_old(live.clock.now())

    def ended(self, run_id: RunId) -> LiveRun | None:
        """Find a run that ended with no client there; only the latest of them are kept."""
        return next((live for live in self._ended if live.record.id == run_id and live.abandoned and not live.delivered), None)

    def shed_old(self, now: float) -> None:
        """Let go of ended runs that were delivered, and shed the oldest of what is too much, or too old."""
        ended = [live for live in self._ended if not live.delivered or live.is_read]
        kept, kept_bytes = deque[LiveRun](), 0
        for live in reversed(ended):  # the latest first
            fits = len(kept) < _ENDED_RUNS and kept_bytes + live.held_bytes <= _ENDED_BYTES
            if live.is_read or (fits and now - live.happened_at[-1] <= _ENDED_S):
                kept.appendleft(live)
                kept_bytes += live.held_bytes
            else:
                live.shed()
        self._ended = kept

    def children(self, run_id: RunId) -> list[LiveRun]:
        """The runs directly below a run."""
        return [live for live in self if live.record.parent_id == run_id]


def _held_bytes(event: RunEvent) -> int:
    match event:
        case ContentDelta(text=text) | ReasoningDelta(text=text):
            return _EVENT_BYTES + sys.getsizeof(text)
        case RunFinished(outcome=outcome):
            return _EVENT_BYTES + sys.getsizeof(outcome.text)
        case _:
            return _EVENT_BYTES
