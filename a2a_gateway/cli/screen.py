"""The output of commands: results go to standard output, remarks about them to standard error.

Both contain texts of agents and peers, which may hold control sequences: they clear a screen, set a title, or fill the clipboard.
So everything is made `legible` here, also for a pipe, because a pipe usually ends at a terminal. JSON holds each text exactly,
with escapes of its own.
"""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table

from delegate_tool.protocol.text import legible

_WIDE: Final = 500
"""Columns where the output is not a terminal, so that no line is folded or cut."""
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


def table(*columns: str, right: Collection[str] = ()) -> Table:
    """Make an empty table; the columns named by `right` hold numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left", no_wrap=column in right)
    return made


def show_json(value: object) -> None:
    """Write one JSON value, for scripts."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print(_RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def note(text: str = "") -> None:
    """Write a remark to standard error; it is never part of the result."""
    _console(stderr=True, soft_wrap=True).print(legible(text), style="dim")


def show_error(message: str, remedy: str = "") -> None:
    """Write an error as one line, then its remedy."""
    console = _console(stderr=True, soft_wrap=True)
    console.print(legible(f"a2a-gateway: {message}"), style="red")
    if remedy:
        console.print(legible(remedy))


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
