"""Decode server-sent events (WHATWG HTML, section 9.2) from the bytes of a response, without losing one.

The OpenAI client's decoder and httpx-sse do not serve. Both drop the last event of a stream that ends without an empty line. Both
return events without data, which keep-alive lines (`event:`, `id:`, `retry:`) cause. Only LF, CR and CRLF end a line: U+0085,
U+2028 and U+2029 are text. `reply` uses this module. Standard library only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_WITHOUT_CHUNKS: Final = frozenset({b"", b"data", b"id", b"retry"})
"""Fields, and comments (""), whose content is never taken for a chunk. By the format a line with any other field name is ignored.
Here such a line counts as an event if it has an object in it: it is a chunk whose field name is missing or damaged, and its text
would be missing from the answer."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event with data.

    Attributes:
        name: the value of its `event` field, or empty.
        is_whole: False if the stream ended in the middle of this event.
    """

    name: str
    data: bytes
    is_whole: bool = True


@dataclass(slots=True)
class EventDecoder:
    """Decodes one stream; `feed` it each piece of the body, then take what `end` returns."""

    _line: list[bytes] = field(default_factory=list)
    _data: list[bytes] = field(default_factory=list)
    _name: str = ""
    _buffered_bytes: int = 0
    _is_after_cr: bool = False
    _is_first_line: bool = True

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that a piece of the body completes.

        Raises:
            ValueError: an event is larger than `MAX_EVENT_BYTES`.
        """
        if self._is_after_cr and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a line end that was split between two pieces
        if not piece:
            self._is_after_cr = False
            return
        self._is_after_cr = piece.endswith(b"\r")
        lines = piece.splitlines()  # of bytes, it knows no other line ends than the three
        unfinished = b"" if piece.endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            yield from self._take_line(self._join(line))
        if unfinished:
            self._buffer(self._line, unfinished)

    def end(self) -> Iterator[ServerSentEvent]:
        """Yield the last event of the stream if no empty line ended it."""
        if self._line:
            yield from self._take_line(self._join(b""))
        for event in self._take_line(b""):
            yield ServerSentEvent(event.name, event.data, is_whole=False)

    def _join(self, line: bytes) -> bytes:
        if not self._line:
            return line
        self._buffered_bytes -= sum(map(len, self._line))
        line = b"".join((*self._line, line))
        self._line.clear()
        return line

    def _take_line(self, line: bytes) -> Iterator[ServerSentEvent]:
        if self._is_first_line:
            self._is_first_line, line = False, line.removeprefix(_BOM)
        if not line:
            if self._data:
                yield ServerSentEvent(self._name, b"\n".join(self._data))
            self._data, self._name, self._buffered_bytes = [], "", 0
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data" and value:
            self._buffer(self._data, value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif b"{" in line and name not in _WITHOUT_CHUNKS:
            yield ServerSentEvent("", line)

    def _buffer(self, buffer: list[bytes], part: bytes) -> None:
        self._buffered_bytes += len(part)
        if self._buffered_bytes > MAX_EVENT_BYTES:
            raise ValueError(f"an event of the stream is larger than {MAX_EVENT_BYTES // 1024**2} MiB")
        buffer.append(part)
