"""Live runs: those under way in this process, with their events so far, their readers, and their trees.

The tables of `run_life` decide what a live run may do next. This module adds what is not pure: events with their times, wake-ups
of readers, and memory. All of it belongs to one event loop, so there are no locks.

The events of a run are kept until the run is removed, so that a client that attaches later reads them from the first one on. A
run that ended with no client attached keeps its events for a client that returns, within bounds of number, bytes and age. Beyond
them it is shed: only its record and a brief copy of its last event stay, and its end is read from the ledger.
"""

import asyncio
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from a2a_gateway.runs.events import ContentDelta, ReasoningDelta, RunEvent, RunFinished, RunStarted, ToolStarted
from a2a_gateway.runs.model import RunId, RunRecord
from a2a_gateway.runs.ports import Clock
from a2a_gateway.runs.run_life import LifeStep, Presence, Receipt, RunLife, RunPhase
from a2a_gateway.runs.signal import Signal
from delegate_tool.protocol.context import OnDisconnect

_ENDED_RUNS: Final = 100
_ENDED_BYTES: Final = 64 * 1024 * 1024
_ENDED_S: Final = 600.0
_EVENT_BYTES: Final = 200
"""Estimated memory of an event without its text."""
_SHED_CHARS: Final = 8 * 1024
_STEPS: Final[Mapping[type[RunEvent], LifeStep]] = {RunStarted: LifeStep.BEGIN, RunFinished: LifeStep.END}
"""The steps of events that are not merely published."""


@dataclass(slots=True, eq=False)
class LiveRun:
    """One run.

    Attributes:
        on_abandoned: called when its last client leaves before its end.
        has_idempotency_key: whether its request had one; the run id of a peer's request counts as one.
        actors: the agents that led to it, root first, its own last.
        trail: the marks of their tasks, its own last.
        life: where it stands; changed only by the methods below.
        departures: how often its last client has left.
        workspace_dir: where its tools work; known once it has its lease.
        happened_at: of each event, in seconds since the epoch.
        event_bytes: estimated memory of its events.
        omitted: how many events the `EventsOmitted` before the end of a replayed run stands for.
        is_renumbered: whether its events were rebuilt from its end, with other numbers than while it worked.
        cancel_reason: a sentence for its caller; empty without a reason.
        cancelled: set when it was asked to stop before its end was being recorded.
        closed: set when its task has ended: outcome published, descendants ended, conversation saved.
    """

    record: RunRecord
    on_disconnect: OnDisconnect
    on_abandoned: Callable[["LiveRun"], None]
    clock: Clock
    has_idempotency_key: bool = False
    actors: tuple[str, ...] = ()
    trail: tuple[str, ...] = ()
    life: RunLife = field(default_factory=RunLife)
    departures: int = 0
    workspace_dir: str | None = None
    events: list[RunEvent] = field(default_factory=list)
    happened_at: list[float] = field(default_factory=list)
    event_bytes: int = 0
    omitted: int = 0
    is_renumbered: bool = False
    cancel_reason: str = ""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _listeners: set["Listener"] = field(default_factory=set)
    _watchers: set["Listener"] = field(default_factory=set)

    @property
    def is_ending(self) -> bool:
        """Whether it was asked to stop, or stops by itself."""
        return self.life.is_ending

    @property
    def has_ended(self) -> bool:
        """Whether its end is published."""
        return self.life.has_ended

    @property
    def is_shed(self) -> bool:
        """Whether its events were dropped, all but a brief copy of the last one."""
        return self.life.phase is RunPhase.SHED

    @property
    def is_abandoned(self) -> bool:
        """Whether no client is attached; also before the first one is."""
        return self.life.presence is not Presence.ATTACHED

    @property
    def has_left(self) -> bool:
        """Whether its last client has left; False before the first one is attached."""
        return self.life.presence is Presence.LEFT

    @property
    def was_received(self) -> bool:
        """Whether a client has received its end."""
        return self.life.receipt is Receipt.WHOLE

    @property
    def was_stopped_by_client(self) -> bool:
        """Whether its client left in the middle of the answer, and the run is not to continue without one."""
        return self.life.was_stopped_by_client and self.on_disconnect is OnDisconnect.CANCEL

    @property
    def is_read(self) -> bool:
        """Whether a client listens or watches."""
        return bool(self._listeners or self._watchers)

    def publish(self, event: RunEvent, at: float | None = None) -> None:
        """Append an event and wake all readers.

        Args:
            at: when it happened; None for now. Times are whole milliseconds, so that a journal keeps them as they are.
        """
        self.life.advance(_STEPS.get(type(event), LifeStep.PUBLISH))
        self.events.append(event)
        self.happened_at.append(round(self.clock.now() if at is None else at, 3))
        self.event_bytes += _memory_of(event)
        for listener in self._listeners:
            listener.wake.set()
        for watcher in self._watchers:
            watcher.wake.set()

    def number_of(self, position: int) -> int:
        """Return the number of the event at a position of `events`: the same in a live run and in one that is replayed."""
        is_after_gap = self.omitted > 0 and position >= len(self.events) - 2
        return position + self.omitted - 1 if is_after_gap else position

    def position_of(self, number: int) -> int:
        """Return the position of the first event with that number or a later one; in a renumbered run at most that of its end."""
        position = bisect_left(range(len(self.events)), number, key=self.number_of)
        return min(position, len(self.events) - 1) if self.is_renumbered else position

    def cancel(self, reason: str = "") -> bool:
        """Ask the run to stop; return whether this has an effect, because it was not ending already."""
        is_first = not self.life.is_ending
        self.life.advance(LifeStep.CANCEL)
        if is_first:
            self.cancel_reason = reason
            self.cancelled.set()
        return is_first

    def begin_finalization(self) -> None:
        """Accept no more events but the end: it is about to be recorded."""
        self.life.advance(LifeStep.FINALIZE)

    def close(self) -> None:
        """Note that the task of the run has ended, and wake those who wait for that."""
        self.life.advance(LifeStep.CLOSE)
        self.closed.set()

    def shed(self) -> None:
        """Drop the events of a closed run, all but a brief copy of the last one."""
        self.life.advance(LifeStep.SHED)
        *_, last = self.events
        if isinstance(last, RunFinished):
            last = replace(last, outcome=replace(last.outcome, text=last.outcome.text[:_SHED_CHARS]))
        self.events, self.happened_at = [last], self.happened_at[-1:]
        self.event_bytes = _memory_of(last)

    def receive_text(self) -> None:
        """Note that text of the answer was written to the socket of a client."""
        self.life.advance(LifeStep.RECEIVE_TEXT)

    def receive_end(self) -> None:
        """Note that a client has received the end."""
        self.life.advance(LifeStep.RECEIVE_END)

    @contextmanager
    def listen(self) -> Iterator["Listener"]:
        """Follow the events from the first one on, as a client for which the run works."""
        listener = Listener(self.events)
        self._listeners.add(listener)
        self.life.advance(LifeStep.ATTACH)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self.leave()

    def leave(self) -> None:
        """Note that a client has left, or gave up before it was attached; the last one to leave abandons an unended run."""
        if self._listeners:
            return
        self.life.advance(LifeStep.LEAVE)
        self.departures += 1
        if not self.has_ended:
            self.on_abandoned(self)

    @contextmanager
    def watch(self, position: int) -> Iterator["Listener"]:
        """Follow the events from a position on, as a reader for which the run does not work."""
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
        """Wait for new events and return all of them; an empty sequence after `timeout_s` without any."""
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
    """The runs under way, by id and as trees, and the latest that ended with no client attached."""

    _by_id: dict[RunId, LiveRun] = field(default_factory=dict)
    _ended: deque[LiveRun] = field(default_factory=deque)
    _changed: Signal = field(default_factory=Signal)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._by_id.values()))

    def get(self, run_id: RunId | None) -> LiveRun | None:
        """Return the run under way with an id; None if no such run is under way."""
        return self._by_id.get(run_id) if run_id is not None else None

    def get_ended(self, run_id: RunId) -> LiveRun | None:
        """Return a run that ended with no client attached; only the latest of them are kept."""
        return next(
            (live for live in self._ended if live.record.id == run_id and live.is_abandoned and not live.was_received), None
        )

    def list_children(self, run_id: RunId) -> list[LiveRun]:
        """List the runs under way directly below a run."""
        return [live for live in self if live.record.parent_id == run_id]

    @property
    def next_change(self) -> asyncio.Event:
        """Set when the next run is added or discarded; see `Signal.next`."""
        return self._changed.next

    def add(self, live: LiveRun) -> None:
        """Add a run that was just admitted."""
        self._by_id[live.record.id] = live
        self._changed.notify()

    def note_discarded(self) -> None:
        """Wake those who wait for a run that was admitted and will not be added."""
        self._changed.notify()

    def remove(self, live: LiveRun) -> None:
        """Close a run and keep it among the ended ones."""
        del self._by_id[live.record.id]
        live.close()
        if live.has_ended:
            self._ended.append(live)
            self.shed_old(live.clock.now())

    def shed_old(self, now: float) -> None:
        """Drop ended runs whose end was received, and shed the oldest of the others where they are too many, large or old."""
        ended = [live for live in self._ended if not live.was_received or live.is_read]
        kept, kept_bytes = deque[LiveRun](), 0
        for live in reversed(ended):  # the latest first
            fits = len(kept) < _ENDED_RUNS and kept_bytes + live.event_bytes <= _ENDED_BYTES
            if live.is_read or (fits and now - live.happened_at[-1] <= _ENDED_S):
                kept.appendleft(live)
                kept_bytes += live.event_bytes
            else:
                live.shed()
        self._ended = kept


def _memory_of(event: RunEvent) -> int:
    match event:
        case ContentDelta(text=text) | ReasoningDelta(text=text):
            return _EVENT_BYTES + sys.getsizeof(text)
        case ToolStarted(arguments=arguments):
            return _EVENT_BYTES + sys.getsizeof(arguments.text)
        case RunFinished(outcome=outcome):
            return _EVENT_BYTES + sys.getsizeof(outcome.text)
        case _:
            return _EVENT_BYTES
