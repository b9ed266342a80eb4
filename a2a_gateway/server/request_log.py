"""Log each HTTP request as one event, `request`, when its response has ended or its client has left.

`a2a-gateway serve` wraps its application. In a host application only the gateway's routes are wrapped.
"""

import time
import uuid
from dataclasses import dataclass, field
from typing import Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.model import RunId
from a2a_gateway.runs.proposal import Caller

log = get_log(__name__)

_NOTES: Final = "a2a_gateway.notes"
_PROBES: Final = frozenset({"/health", "/ready"})
"""Requested every few seconds by whatever supervises the gateway."""
_PATH_CHARS: Final = 200
_CLIENT_LEFT: Final = 499


@dataclass(slots=True)
class RequestNotes:
    """What is known of a request, for its response and for the log.

    Attributes:
        run_id: of the run that it starts or asks about.
        is_complete: whether the response has ended, or the connection has answered in place of the application.
        client_left: whether the client hung up before the response was complete.
    """

    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    caller: Caller | None = None
    run_id: RunId | None = None
    status: int | None = None
    sent_bytes: int = 0
    is_complete: bool = False
    client_left: bool = False


class RequestLog:
    """ASGI middleware that logs the requests of a whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and log it."""
        if scope["type"] == "http":
            await log_request(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)


def notes_of(scope: Scope) -> RequestNotes:
    """Return the notes of a request that is being logged."""
    return cast(RequestNotes, scope[_NOTES])


def note_refusal(scope: Scope, status: int) -> None:
    """Note that the connection has answered a request in place of the application, if that has begun to serve it."""
    if _NOTES in scope:
        notes = notes_of(scope)
        notes.status, notes.is_complete = status, True


async def log_request(serve: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request and log it, unless the application that serves it does so already."""
    if _NOTES in scope:
        await serve(scope, receive, send)
        return
    notes = scope[_NOTES] = RequestNotes()
    began_at = time.monotonic()

    async def receive_noting() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect" and not notes.is_complete:
            notes.client_left = True
        return message

    async def send_noting(message: Message) -> None:
        try:
            await send(message)
        except OSError:
            notes.client_left = True
            raise
        if notes.is_complete:
            return  # it was refused meanwhile
        if message["type"] == "http.response.start":
            notes.status = message["status"]
        elif message["type"] == "http.response.body":
            notes.sent_bytes += len(message.get("body", b""))
            notes.is_complete = not message.get("more_body", False)

    try:
        await serve(scope, receive_noting, send_noting)
    finally:
        _log(scope, notes, time.monotonic() - began_at)


def _log(scope: Scope, notes: RequestNotes, seconds: float) -> None:
    caller, client = notes.caller, scope.get("client")
    fields: dict[str, object] = {
        "method": scope["method"],
        "path": scope["path"][:_PATH_CHARS],  # without the query, which may hold an idempotency key
        "status": notes.status or (_CLIENT_LEFT if notes.client_left else 500),
        "seconds": round(seconds, 3),
        "sent_bytes": notes.sent_bytes,
        "client": client[0] if client else None,
        "request_id": notes.request_id,
        "key_id": caller and caller.key.id,
        "key_name": caller and caller.key.name,
        "caller_run_id": caller and caller.run and caller.run.id,
        "run_id": notes.run_id,
        "client_left": notes.client_left or None,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    if scope["path"].removeprefix(scope.get("root_path", "")) in _PROBES:
        log.debug("request", **known)
    else:
        log.info("request", **known)
