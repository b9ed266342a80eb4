"""Server-sent events: an encoder, and an incremental decoder that the command line and the tests read streams with.

Knows the `text/event-stream` format and nothing of what the events carry. Does no I/O: bytes in, events out.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import codecs
import re
from dataclasses import dataclass
from typing import Final

HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers of a response that is a stream; the last two keep proxies from holding it back."""
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event.

    Attributes:
        event: its type; `message` unless the stream names another.
        id: the last id that the stream has set, as a reconnecting client would send it; empty if there was none.
    """

    data: str
    event: str = "message"
    id: str = ""


def encode_event(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode one event whose data holds no CR, as JSON never does.

    Raises:
        ValueError: the data holds a CR, or the type or the id cannot stand on one line.
    """
    if b"\r" in data or any(char in field for field in (event or "", event_id or "") for char in "\r\n\0"):
        raise ValueError("CR in an SSE event's data, or a line break or NUL in its type or id, would change the event")
    head = (f"event: {event}\n" if event else "") + (f"id: {event_id}\n" if event_id is not None else "")
    return head.encode() + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


class SseDecoder:
    """Turns the bytes of one stream, in pieces of any size, into its events.

    An event that the stream does not complete with an empty line is dropped, as the specification requires.
    """

    def __init__(self) -> None:
        self._bytes_to_text = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = True
        self._after_cr = False
        self._unfinished: list[str] = []  # pieces of the last line; a list, since a long line may arrive in very many
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events that they complete, in order."""
        text = self._bytes_to_text.decode(chunk)
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            # The CR ended its line when it came; an LF that follows belongs to it.
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        if lines:
            lines[0] = "".join([*self._unfinished, lines[0]])
            self._unfinished.clear()
        if rest:
            self._unfinished.append(rest)
        return [event for line in lines if (event := self._take_line(line)) is not None]

    def _take_line(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")  # a comment has an empty name
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case _:
                pass  # comments and unknown fields are ignored; so is `retry`: nothing here reconnects
        return None

    def _dispatch(self) -> SseEvent | None:
        event, data = self._event, self._data
        self._event, self._data = "", []
        return SseEvent("\n".join(data), event or "message", self._id) if data else None
