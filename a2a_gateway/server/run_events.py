"""The response to `GET /v1/runs/{id}/events`: a run's events as they happen, from any of them on."""

from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.events import RunFinished
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.server.run_response import SSE_HEADERS, Outlet, unless_the_client_leaves
from a2a_gateway.wire.run_events import HEARTBEAT, render_run_event


def first_wanted(last_event_id: str | None, after: int | None) -> int:
    """Tell which event to begin with: the one after `Last-Event-ID`, which a browser sends by itself, or after `after`.

    Raises:
        RequestError: `Last-Event-ID` is no number.
    """
    if last_event_id is None:
        return 0 if after is None else after + 1
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10):
        raise RequestError("Last-Event-ID: it is the number of an event.", param="Last-Event-ID")
    return int(last_event_id) + 1


class RunEventsResponse(Response):
    """Watches a run until it ends or the client leaves; whether somebody watches is all the same to the run."""

    def __init__(self, live: LiveRun, begin: int, *, gateway_id: str, heartbeat_s: float) -> None:
        super().__init__()
        self._live = live
        self._begin = begin
        self._gateway_id = gateway_id
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, unless the client leaves first."""
        outlet = Outlet(send)
        with suppress(OSError):
            await unless_the_client_leaves(self._send(outlet), outlet, receive)

    async def _send(self, outlet: Outlet) -> None:
        live = self._live
        begin = min(self._begin, len(live.events))  # a number from the future is that of the next event
        with live.watch(begin) as watcher:
            await outlet.start(
                200, {**SSE_HEADERS, **{name: value for name, value in self.headers.items() if name == "x-request-id"}}
            )
            number, last = begin, begin == len(live.events) and live.has_ended
            while not last:
                fresh = await watcher.take(self._heartbeat_s)
                body = b"".join(
                    render_run_event(at, event, live.record, at=live.happened_at[at], gateway_id=self._gateway_id)
                    for at, event in enumerate(fresh, number)
                )
                number += len(fresh)
                last = bool(fresh) and isinstance(fresh[-1], RunFinished)
                await outlet.write(body or HEARTBEAT, more=True)
            await outlet.write(b"", more=False)
