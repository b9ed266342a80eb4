"""What a run is doing, for the status line: its tools and the runs below it.

Threads read it from the gateway, beside the connection that carries the answer, whose first byte comes with the first text. One
finds the run and follows its events, one asks for its tree while it delegates. Neither the answer nor its end depends on them: a
failure ends only the watch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

from a2a_gateway.cli.screen import format_seconds

if TYPE_CHECKING:
    from a2a_gateway.cli.gateway_client import RemoteGateway
    from a2a_gateway.cli.gateway_responses import ListedRun

_DELEGATION: Final = "delegate"
_FIND_EVERY_S: Final = 0.3
_ASK_EVERY_S: Final = 1.0
_PEERS_WITHIN_S: Final = 1.0
_LIVE: Final = ("running", "queued")
_MOST_NAME: Final = 60


class Activity:
    """What a run is doing, as far as its events have arrived. Written by the threads of a watch, read by the status line."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._began = monotonic()
        self._is_queued = False
        self._thinks_since: float | None = None
        self._tools: Mapping[str, tuple[str, float]] = {}  # by id of the call: the tool, and when it started; oldest first
        self._below: tuple[ListedRun, ...] = ()
        self._below_at = 0.0

    @property
    def delegates(self) -> bool:
        """Whether the delegation tool is at work."""
        return any(tool == _DELEGATION for tool, _ in self._tools.values())

    def take_run(self, run: "ListedRun") -> None:
        """Record the state of the run before it has events."""
        self._is_queued = run.state == "queued"

    def take_event(self, event: Mapping[str, object]) -> None:
        """Record an event of the run."""
        match event:
            case {"type": "tool.started", "tool": str(tool), "call_id": str(call_id)}:
                self._tools = {**self._tools, call_id: (tool, monotonic())}
                self._thinks_since = None
            case {"type": "tool.finished", "call_id": str(call_id)}:
                self._tools = {each: tool for each, tool in self._tools.items() if each != call_id}
                self._think()
            case {"type": "run.started"}:
                self._is_queued = False
                self._think()

    def take_tree(self, root: "ListedRun") -> None:
        """Record the runs below the run that are under way."""
        self._below, self._below_at = tuple(run for run in _descendants(root) if run.state in _LIVE), monotonic()

    def describe(self) -> str:
        """Describe what the run is doing, on one line."""
        parts = [f"{self._model} {format_seconds(monotonic() - self._began)}", self._describe_tools(), self._describe_below()]
        if self._is_queued:
            parts.append("queued")
        if self._thinks_since is not None:
            parts.append(f"thinking {format_seconds(monotonic() - self._thinks_since)}")
        return " · ".join(part for part in parts if part)

    def _think(self) -> None:
        self._thinks_since = None if self._tools else monotonic()

    def _describe_tools(self) -> str:
        # The runs that a delegation has begun are described in its place.
        tools = [each for each in self._tools.values() if each[0] != _DELEGATION or not self._below]
        if not tools:
            return ""
        oldest, since = tools[0]
        more = f" (+{len(tools) - 1})" if len(tools) > 1 else ""
        return f"{oldest[:_MOST_NAME]} {format_seconds(monotonic() - since)}{more}"

    def _describe_below(self) -> str:
        below = self._below
        if not below or not self.delegates:
            return ""
        oldest = below[0]
        seconds = oldest.seconds + monotonic() - self._below_at
        state = f"running, {format_seconds(seconds)}" if oldest.state == "running" else oldest.state
        count = f"{len(below)} agents: " if len(below) > 1 else ""
        return f"{count}{oldest.agent[:_MOST_NAME]} ({state})"


def _descendants(root: "ListedRun") -> "Iterator[ListedRun]":
    for child in root.children:
        yield child
        yield from _descendants(child)


@contextmanager
def watch_run(
    gateway: "RemoteGateway", idempotency_key: str, activity: Activity, on_found: Callable[[str], None], *, follows: bool
) -> Iterator[None]:
    """Find the run of an idempotency key, and record what it is doing until the context ends.

    Args:
        on_found: called with the run's id.
        follows: whether to record more than that.
    """
    over = Event()

    def follow() -> None:
        run = _find_run(gateway, idempotency_key, over)
        if run is None or over.is_set():
            return
        on_found(run.id)
        if follows:
            activity.take_run(run)
            _start(lambda: ask_for_tree(run.id))
            for event in gateway.events(run.id):
                if over.is_set():
                    return
                activity.take_event(event)

    def ask_for_tree(run_id: str) -> None:
        while not over.wait(_ASK_EVERY_S):
            if activity.delegates:
                activity.take_tree(gateway.tree(run_id, within_s=_PEERS_WITHIN_S))

    _start(follow)
    try:
        yield
    finally:
        over.set()  # the threads are not waited for: the events of a run that goes on would keep them


def _find_run(gateway: "RemoteGateway", idempotency_key: str, over: Event) -> "ListedRun | None":
    while not over.wait(_FIND_EVERY_S):
        if (run := gateway.run_of_key(idempotency_key)) is not None:
            return run
    return None


def _start(work: Callable[[], None]) -> None:
    def run() -> None:
        with suppress(Exception):  # the status line then shows less
            work()

    Thread(target=run, daemon=True).start()
