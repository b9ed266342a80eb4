"""The output of commands: results go to standard output, remarks about them to standard error.

Both contain texts of agents and peers, which may hold control sequences: they clear a screen, set a title, or fill the clipboard.
So everything is made `legible` here, also for a pipe, because a pipe usually ends at a terminal. JSON holds each text exactly,
with escapes of its own.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from threading import Event, Lock, Thread
from time import monotonic
from typing import Final, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.segment import ControlType, Segment
from rich.spinner import Spinner
from rich.text import Text

from a2a_gateway.cli.listing import Listing
from delegate_tool.protocol.text import legible

_WIDE: Final = 500
"""Columns where the output is not a terminal, so that no line is folded or cut."""
_SHORT_ID_CHARS: Final = 8
_RAW_IN_JSON: Final = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that JSON may hold unescaped, but that must not reach a terminal."""

_REPAINT_S: Final = 0.1
_SILENCE_S: Final = 0.3
"""How long nothing has been printed before the status line is shown."""
_SILENCE_IN_LINE_S: Final = 3.0
"""The same in the middle of a line, which the status line breaks: an LLM may pause there."""


class _Legible:
    """A table or a text whose segments are made legible after the layout."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(legible(segment.text), segment.style)


def show(renderable: RenderableType = "", *, stderr: bool = False) -> None:
    """Write a table or a text without markup, to standard output if it is the result of the command."""
    console = _console(soft_wrap=isinstance(renderable, str), stderr=stderr)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(_Legible(renderable))


def show_prose(text: str) -> None:
    """Write a text whose lines are broken at spaces on a terminal, and nowhere else."""
    console = _console(soft_wrap=False)
    console.print(legible(text), soft_wrap=not console.is_terminal)


def show_piece(text: str) -> None:
    """Write a piece of a text that arrives in pieces."""
    print(legible(text), end="", flush=True)


def table(
    *columns: str,
    right: Collection[str] = (),
    wraps: Collection[str] = (),
    cut: Collection[str] = (),
    optional: Sequence[str] = (),
) -> Listing:
    """Make an empty table that fits the terminal; see `listing`.

    Args:
        right: the columns that hold numbers.
        wraps: those with texts, which are broken at spaces.
        cut: those that may be shortened.
        optional: those that may be left out, the least important first.
    """
    return Listing(*columns, right=right, wraps=wraps, cut=cut, optional=optional)


def short_id(full: str) -> str:
    """Return the beginning of an id, which every command takes for the id."""
    return full[:_SHORT_ID_CHARS]


def local_time(instant: float | str | None, *, precision: str = "minutes") -> str | None:
    """Return an instant (seconds since the epoch, or ISO 8601) as the local time with its offset."""
    if instant is None:
        return None
    try:
        moment = datetime.fromisoformat(instant) if isinstance(instant, str) else datetime.fromtimestamp(instant, UTC)
    except ValueError:
        return str(instant)  # what a server that is no gateway sends
    return moment.astimezone().isoformat(" ", precision)


def show_json(value: object) -> None:
    """Write one JSON value, for scripts."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(_RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def note(text: str = "") -> None:
    """Write a remark to standard error; it is never part of the result."""
    _print_remark(text, style="dim")


def show_error(message: str, remedy: str = "") -> None:
    """Write an error as one line, then its remedy."""
    _print_remark(f"a2a-gateway: {message}", style="red")
    if remedy:
        _print_remark(remedy)


def _print_remark(text: str, *, style: str | None = None) -> None:
    """Write a text to standard error; broken at spaces on a terminal, and not at all elsewhere."""
    console = _console(stderr=True, soft_wrap=False)
    console.print(legible(text), style=style, soft_wrap=not console.is_terminal)


def _console(*, soft_wrap: bool, stderr: bool = False) -> Console:
    """Make a console that interprets no markup in a text, neither rich's nor names of emojis."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap)


def can_show_status() -> bool:
    """Return whether standard error is a terminal that can show a status line. FORCE_COLOR does not make one of a log."""
    return sys.stderr.isatty() and not _console(stderr=True, soft_wrap=False).is_dumb_terminal


class StatusLine:
    """One line of a terminal's standard error that shows what a command waits for, while nothing else is printed.

    A thread paints it. It is removed before anything is printed, if that goes through `write` or `hide`. If standard error is
    no terminal, nothing is painted.

    Args:
        describe: returns the text to show; called from the thread.
        is_shown: whether to paint it on a terminal.
    """

    def __init__(self, describe: Callable[[], str], *, is_shown: bool = True) -> None:
        self._describe = describe
        self._is_shown = is_shown
        self._console = _console(stderr=True, soft_wrap=False)
        self._spinner = Spinner("dots")
        self._lock = Lock()
        self._over = Event()
        self._painter = Thread(target=self._paint, name="status line", daemon=True)
        self._printed_at = -inf
        self._is_painted = False
        self._is_mid_line = False
        self._broke_line = False

    def __enter__(self) -> Self:
        if self._is_shown and can_show_status():
            try:
                self._painter.start()
            except KeyboardInterrupt:  # `__exit__` will not be called
                self._over.set()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._painter.ident is not None:
            self._painter.join()
        self._erase()

    def write(self, text: str) -> None:
        """Write a piece of a text that arrives in pieces to standard output."""
        with self.hide():
            # A line that was ended to make room for the status line needs no second end.
            printed = text.removeprefix("\n") if self._broke_line else text
            self._broke_line = False
            show_piece(printed)
            if text and sys.stdout.isatty():
                self._is_mid_line = not text.endswith("\n")

    @contextmanager
    def hide(self) -> Iterator[None]:
        """Keep the line away while the context prints."""
        with self._lock:
            self._erase()
            yield
            self._printed_at = monotonic()

    def _paint(self) -> None:
        while not self._over.wait(_REPAINT_S):
            with self._lock:
                silence_s = monotonic() - self._printed_at
                if silence_s > (_SILENCE_IN_LINE_S if self._is_mid_line else _SILENCE_S):
                    self._repaint()

    def _repaint(self) -> None:
        if self._is_mid_line:
            show_piece("\n")
            self._is_mid_line, self._broke_line = False, True
        frame = self._spinner.render(monotonic())
        line = Text.assemble(str(frame), " ", " ".join(legible(self._describe()).split()))
        # Not the width that COLUMNS claims: a line that fills the terminal's own wraps, and could not be removed.
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or self._console.width
        line.truncate(max(1, columns - 1), overflow="ellipsis")
        with self._console:  # one write, so that nothing flickers
            self._erase()
            self._console.print(line, end="", style="dim", soft_wrap=True)
        self._is_painted = True

    def _erase(self) -> None:
        if self._is_painted:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
            self._is_painted = False


@contextmanager
def show_spinner(text: str) -> Iterator[None]:
    """Show on a terminal what the command waits for, and for how long, until the context ends."""
    began = monotonic()
    with StatusLine(lambda: f"{text} {format_seconds(monotonic() - began)}"):
        yield


def format_cost(usd: str, *, complete: bool) -> str:
    """Format a cost in USD, with a mark if a part of it is unknown or estimated."""
    return f"${usd}{'' if complete else ' + ?'}"


def format_seconds(seconds: float) -> str:
    """Format a duration for people, such as `12 s` or `2 min 05 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
