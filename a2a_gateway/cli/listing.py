"""A table that fits its terminal: no id, amount or state is broken over lines, whatever the width.

    kind       where the terminal is narrow
    optional   left out, the first of them first; also where no row has a value
    wraps      texts: broken at spaces
    cut        shortened with an ellipsis if nothing else helps, such as the names of a tree
    others     never broken nor shortened

If that does not fit, and no column may be cut, each row becomes a block of lines, one for each column.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from delegate_tool.protocol.text import legible

_GAP: Final = 1
_LEAST_CUT: Final = 12
_ID_CHARS: Final = 36
_LONGEST_WORD: Final = 32
"""A longer word, such as a path, is broken if it must be."""
_EMPTY: Final = ("", "–")


class Listing(Table):
    """A rich table whose columns are chosen and sized when it is rendered."""

    def __init__(
        self, *columns: str, right: Collection[str], wraps: Collection[str], cut: Collection[str], optional: Sequence[str]
    ):
        super().__init__()
        self._right, self._wraps, self._cut, self._optional = right, wraps, cut, optional
        for column in columns:
            self.add_column(column)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [self._measure(index) for index in range(len(self.columns))]
        shown = _choose(columns, self._optional, options.max_width)
        if _least_width(shown) <= options.max_width:
            yield self._as_table(shown, options.max_width)
        elif self._cut:
            yield self._as_table([self._shorten(column) for column in shown], options.max_width)
        else:
            yield from self._as_blocks()

    def _measure(self, index: int) -> "_Column":
        name = str(self.columns[index].header)
        texts = [_text_of(cell) for cell in self.columns[index].cells]
        most = max((text.cell_len for text in texts), default=0)
        least = most
        if name in self._wraps:
            words = (len(word) for text in texts for word in text.plain.split())
            least = min(max(words, default=0), _LONGEST_WORD)
        is_empty = all(text.plain in _EMPTY for text in texts)
        return _Column(name, tuple(texts), max(least, len(name)), max(most, len(name)), is_empty=is_empty)

    def _shorten(self, column: "_Column") -> "_Column":
        return replace(column, least=min(column.least, _LEAST_CUT)) if column.name in self._cut else column

    def _as_table(self, columns: Sequence["_Column"], width: int) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for column, column_width in zip(columns, _share(columns, width), strict=True):
            made.add_column(
                column.name,
                width=column_width,
                justify="right" if column.name in self._right else "left",
                no_wrap=column.name not in self._wraps,
                overflow="ellipsis" if column.name in self._cut else "fold",
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            made.add_row(*row)
        return made

    def _as_blocks(self) -> Iterator["Block | Text"]:
        names = [str(column.header) for column in self.columns]
        for number, row in enumerate(zip(*(column.cells for column in self.columns), strict=True)):
            if number:
                yield Text()
            yield Block(zip(names, row, strict=True))


class Block:
    """Lines of a name and a value; without those that have no value. Where an id would not fit, values get lines of their own."""

    def __init__(self, rows: Iterable[tuple[str, object]]) -> None:
        texts = [(name, _text_of(value)) for name, value in rows if value is not None]
        self._rows = [(name, text) for name, text in texts if text.plain not in _EMPTY]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        longest_name = max((len(name) for name, _ in self._rows), default=0)
        words = (len(word) for _, text in self._rows for word in text.plain.split())
        made = Table.grid(padding=(0, _GAP, 0, 0))
        if longest_name + _GAP + min(max(words, default=0), _ID_CHARS) <= options.max_width:
            made.add_column(style="bold", no_wrap=True)
            made.add_column(overflow="fold")
            for name, text in self._rows:
                made.add_row(name, text)
        else:
            for name, text in self._rows:
                made.add_row(Text(name, "bold"))
                made.add_row(Padding(text, (0, 0, 0, 2)))
        yield made


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its cells, and the least and the greatest width that are of use to it."""

    name: str
    cells: tuple[Text, ...]
    least: int
    most: int
    is_empty: bool


def _choose(columns: Sequence[_Column], optional: Sequence[str], width: int) -> list[_Column]:
    """Return the columns to show: without optional ones that are empty, and without as many others as the width demands."""
    chosen = [column for column in columns if not (column.is_empty and column.name in optional)]
    for name in optional:
        if _least_width(chosen) <= width:
            break
        chosen = [column for column in chosen if column.name != name]
    return chosen


def _least_width(columns: Sequence[_Column]) -> int:
    return sum(column.least + _GAP for column in columns) - _GAP


def _share(columns: Sequence[_Column], width: int) -> list[int]:
    """Return the width of each column: the least, and of what is left over an equal share, as far as a column can use it."""
    left = max(0, width - _least_width(columns))
    widths = [column.least for column in columns]
    by_need = sorted(range(len(columns)), key=lambda index: columns[index].most - columns[index].least)
    for position, index in enumerate(by_need):
        more = min(columns[index].most - columns[index].least, left // (len(by_need) - position))
        widths[index] += more
        left -= more
    return widths


def _text_of(cell: object) -> Text:
    return cell if isinstance(cell, Text) else Text(legible(str(cell)))
