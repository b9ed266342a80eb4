"""What the commands write: results to standard output, everything about them to standard error."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_WIDE: Final = 500
"""Columns for a reader that is no terminal: nothing is to be folded or cut there."""


def show(renderable: RenderableType = "") -> None:
    """Write a table or a text without markup."""
    console = Console(highlight=False, markup=False, soft_wrap=isinstance(renderable, str))
    if not console.is_terminal:
        console.width = _WIDE
    console.print(renderable)


def table(*columns: str, right: Collection[str] = ()) -> Table:
    """Make an empty table; the columns named by `right` hold numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left", no_wrap=column in right)
    return made


def show_json(value: object) -> None:
    """Write one JSON value, for scripts."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def note(text: str = "") -> None:
    """Write a remark for the person who watches; never part of the result."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text, style="dim")


def tell(message: str, remedy: str = "") -> None:
    """Write a failure as one line, and what to do."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"a2a-gateway: {message}", style="red")
    if remedy:
        console.print(remedy)


class Clock:
    """Tells on a terminal that something is awaited, and for how long by now. Elsewhere it shows nothing."""

    def __init__(self, text: str) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._progress.add_task(text, total=None)

    def show(self) -> None:
        """Show it on the line of the cursor; nothing changes if it is there already."""
        self._progress.start()

    def hide(self) -> None:
        """Take it away, and give its line back; nothing changes if it is not there."""
        self._progress.stop()


@contextmanager
def waiting(text: str) -> Iterator[Clock]:
    """Show a clock until the context ends."""
    clock = Clock(text)
    clock.show()
    try:
        yield clock
    finally:
        clock.hide()
