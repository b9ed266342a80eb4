"""Parse a provider's streamed answer: bytes in, JSON events out. Pure.

A stream consists of server-sent events or of JSON lines. LiteLLM reads both line by line, with three faults that lose content
without an error: it ends lines where `str.splitlines()` does (also at U+2028, U+2029 and U+0085, which JSON strings may contain),
it skips lines that are not JSON, and after the finish reason it treats comments and other fields as the end of the stream. So
the stream is parsed here, and LiteLLM receives each event as one line of ASCII. Anything that cannot be parsed is an error.

Two other places parse server-sent events, with other needs: the command line and the tests use `httpx-sse`;
`delegate_tool.remote.sse` bounds events and reports a truncated one, but supports neither JSON lines nor events without an empty
line.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DONE: Final = "[DONE]"
"""The mark with which OpenAI's streams end."""
_DECODER: Final = json.JSONDecoder(strict=False)
"""Not strict, as some servers do not escape control characters in strings. Made once: making it takes as long as using it."""
_MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
_MAX_QUOTED_CHARS: Final = 120
_FIELDS: Final = frozenset({"event", "id", "retry"})
_PINGS: Final = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
"""Names of events whose data need not be JSON."""


class AnswerDamaged(Exception):
    """A provider's answer has a part that cannot be read."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event. `value` is None if it is the mark `[DONE]`; `is_line` is True if it came as a JSON line without a field name."""

    value: dict[str, object] | None
    is_line: bool = False


def render_line(event: StreamEvent) -> str:
    """Write an event as the line that LiteLLM reads: ASCII, and without the characters of `[DONE]` in a string."""
    if event.value is None:
        return f"data: {DONE}"
    text = json.dumps(event.value).replace(DONE, r"[DON\u0045]")
    return text if event.is_line else f"data: {text}"


class EventReader:
    """Splits one stream into events.

    A line ends at `\\n`, `\\r\\n` or `\\r`, wherever the network has split the bytes. An event ends at an empty line, or when its
    data are complete JSON, because some servers send no empty lines.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._after_cr = False
        self._is_first_line = True
        self._data: list[str] = []
        self._json_lines: list[str] = []
        self._event_name = ""
        self._has_read = False

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """Read some bytes.

        Raises:
            AnswerDamaged: they complete a line that cannot be read.
        """
        for line in self._lines(data):
            yield from self._read_line(line)

    def finish(self) -> Iterator[StreamEvent]:
        """Read what the end of the stream completes.

        Raises:
            AnswerDamaged: the stream ended within an event.
        """
        if self._rest:
            yield from self._read_line(b"".join(self._rest))
        yield from self._end_event()
        if self._json_lines:
            yield from self._parse("\n".join(self._json_lines), is_line=True)

    def _lines(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        for part in data.splitlines(keepends=True):  # of bytes: it ends lines at \n, \r\n and \r only
            line = part.rstrip(b"\r\n")
            self._rest_bytes += len(line)
            if self._rest_bytes > _MAX_EVENT_BYTES:
                raise AnswerDamaged(f"an event is longer than {_MAX_EVENT_BYTES} bytes")
            if len(line) == len(part):
                self._rest.append(line)
            else:
                yield b"".join((*self._rest, line))
                self._rest.clear()
                self._rest_bytes = 0

    def _read_line(self, raw: bytes) -> Iterator[StreamEvent]:
        if not raw:
            yield from self._end_event()
            return
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise AnswerDamaged(f"a line is not UTF-8: {raw[:_MAX_QUOTED_CHARS]!r}") from error
        if self._is_first_line:
            line = line.removeprefix("\ufeff")
            self._is_first_line = False
        field, _, value = line.partition(":")
        if field == "data":
            yield from self._read_data(value.removeprefix(" "))
        elif field == "event":
            self._event_name = value.strip()
        elif field and field not in _FIELDS:
            yield from self._read_json_line(line)

    def _read_data(self, data: str) -> Iterator[StreamEvent]:
        if not self._data:
            try:
                yield from self._parse(data)
            except AnswerDamaged:  # the next line may continue it
                self._data.append(data)
        else:
            self._data.append(data)

    def _end_event(self) -> Iterator[StreamEvent]:
        data, self._data = self._data, []
        name, self._event_name = self._event_name, ""
        if data and name not in _PINGS:
            yield from self._parse("\n".join(data))

    def _read_json_line(self, line: str) -> Iterator[StreamEvent]:
        if self._json_lines:
            self._json_lines.append(line)
            return
        try:
            yield from self._parse(line, is_line=True)
        except AnswerDamaged:
            # At the beginning it may be one JSON document of many lines, from a server that does not stream.
            if self._has_read or not line.lstrip().startswith("{"):
                raise
            self._json_lines.append(line)

    def _parse(self, text: str, *, is_line: bool = False) -> Iterator[StreamEvent]:
        text = text.strip()
        if text == DONE:
            self._has_read = True
            yield StreamEvent(None)
            return
        try:
            value = _DECODER.decode(text) if text else None
        except (ValueError, RecursionError) as error:
            raise AnswerDamaged(f"an event is not JSON: {_quote(text)}") from error
        if isinstance(value, dict):
            self._has_read = True
            if value:  # an empty object only keeps the connection alive
                yield StreamEvent(value, is_line)
        elif value:
            raise AnswerDamaged(f"an event is not a JSON object: {_quote(text)}")


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED_CHARS else f"{text[:_MAX_QUOTED_CHARS]}…")
