"""The output of commands: results go to standard output, remarks about them to standard error.

Both contain texts of agents and peers, which may hold control sequences: they clear a screen, set a title, or fill the clipboard.
So everything is made `legible` here, also for a pipe, because a pipe usually ends at a terminal. JSON holds each text exactly,
with escapes of its own.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from a2a_gateway.cli.listing import Listing
from delegate_tool.protocol.text import legible

_WIDE: Final = 500
"""Columns where the output is not a terminal, so that no line is folded or cut."""
_SHORT_ID_CHARS: Final = 8
_RAW_IN_JSON: Final = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that JSON may hold unescaped, but that must not reach a terminal."""


class _Legible:
    """A table or a text whose segments are made legible after the layout."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(legible(segment.text), segment.style)


def show(renderable: RenderableType = "") -> None:
    """Write a table or a text without markup."""
    console = _console(soft_wrap=isinstance(renderable, str))
    if not console.is_terminal:
        console.width = _WIDE
    console.print(_Legible(renderable))


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


def local_time(instant: float | str | None) -> str | None:
    """Return an instant (seconds since the epoch, or ISO 8601) as the local time with its offset."""
    if instant is None:
        return None
    try:
        moment = datetime.fromisoformat(instant) if isinstance(instant, str) else datetime.fromtimestamp(instant, UTC)
    except ValueError:
        return str(instant)  # what a server that is no gateway sends
    return moment.astimezone().isoformat(" ", "minutes")


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


class Spinner:
    """Shows on a terminal that the command is waiting, and for how long. Elsewhere it shows nothing."""

    def __init__(self, text: str) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._progress.add_task(text, total=None)

    def show(self) -> None:
        """Show it on the line of the cursor, if it is not shown already."""
        self._progress.start()

    def hide(self) -> None:
        """Remove it and clear its line, if it is shown."""
        self._progress.stop()


@contextmanager
def show_spinner(text: str) -> Iterator[Spinner]:
    """Show a spinner until the context ends."""
    spinner = Spinner(text)
    spinner.show()
    try:
        yield spinner
    finally:
        spinner.hide()
