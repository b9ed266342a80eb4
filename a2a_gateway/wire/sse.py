"""Encode server-sent events. Knows the `text/event-stream` format and nothing of what the events carry.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from typing import Final

HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers of a response that is a stream; the last two keep proxies from holding it back."""


def encode_event(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode one event whose data contains no CR, as JSON never does.

    Raises:
        ValueError: the data contains a CR, or the type or the id does not fit on one line.
    """
    if b"\r" in data or any(char in field for field in (event or "", event_id or "") for char in "\r\n\0"):
        raise ValueError("CR in an SSE event's data, or a line break or NUL in its type or id, would change the event")
    head = (f"event: {event}\n" if event else "") + (f"id: {event_id}\n" if event_id is not None else "")
    return head.encode() + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
