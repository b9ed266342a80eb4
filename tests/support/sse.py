"""Decode server-sent events by a decoder that is not the project's."""

from collections.abc import Iterable

import httpx
from httpx_sse import EventSource, ServerSentEvent


def decode_events(stream: bytes | Iterable[bytes]) -> list[ServerSentEvent]:
    """Return the events of a body, whole or in pieces."""
    return list(EventSource(httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)).iter_sse())
