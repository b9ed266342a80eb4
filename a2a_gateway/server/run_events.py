"""The response to `GET /v1/runs/{id}/events`: the events of a run as they happen, beginning with any of them."""

import asyncio
from contextlib import suppress
from itertools import batched
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.attachment import watch
from a2a_gateway.runs.events import RunEvent
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import RunRecord
from a2a_gateway.server.request_log import notes_of
from a2a_gateway.server.response_writer import ResponseWriter, raw_headers, write_until_client_leaves
from a2a_gateway.wire import sse
from a2a_gateway.wire.run_events import HEARTBEAT, render_run_event
from delegate_tool.protocol.fields import Header

_BATCH: Final = 200


def first_position(last_event_id: str | None, after: int | None) -> int:
    """Return the number of the first event to send: the one after `Last-Event-ID`, which browsers send, or after `after`.

    Raises:
        RequestError: `Last-Event-ID` is not the number of an event.
    """
    if last_event_id is None:
        return 0 if after is None else after + 1
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10):
        raise RequestError("Last-Event-ID: it is the number of an event.", param="Last-Event-ID")
    return int(last_event_id) + 1


class RunEventsResponse(Response):
    """Watches a run until it ends or the client leaves. Whether a client watches makes no difference to the run."""

    media_type = "text/event-stream"

    def __init__(self, live: LiveRun, begin: int, *, gateway_id: str, heartbeat_s: float) -> None:
        super().__init__()
        self._live = live
        self._begin = begin
        self._gateway_id = gateway_id
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, unless the client leaves first."""
        writer = ResponseWriter(send)
        with suppress(OSError):
            await write_until_client_leaves(self._send(writer, notes_of(scope).request_id), writer, receive)

    async def _send(self, writer: ResponseWriter, request_id: str) -> None:
        live = self._live
        position = live.position_of(self._begin)  # a number beyond the last event means the next one
        with watch(live, position) as run:
            await writer.start(200, raw_headers({**sse.HEADERS, Header.REQUEST_ID: request_id}))
            while not run.has_ended:
                events = await run.take(self._heartbeat_s)
                for batch in batched(events, _BATCH) if events else ((),):
                    body = b"".join(self._render(at, event, run.record) for at, event in enumerate(batch, position))
                    position += len(batch)
                    await writer.write(body or HEARTBEAT, more=True)
                    await asyncio.sleep(0)  # other requests get their turn, however many events a run has
            await writer.write(b"", more=False)

    def _render(self, position: int, event: RunEvent, record: RunRecord) -> bytes:
        number, at = self._live.number_of(position), self._live.happened_at[position]
        return render_run_event(number, event, record, at=at, gateway_id=self._gateway_id)
