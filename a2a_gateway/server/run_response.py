"""The response to a request for a run, streamed or whole, on any wire: from the run's events to bytes on the socket.

The response is an ASGI application of its own, because one place must see both the client's socket and the run: a client that
disconnects, before admission or in mid-stream, leaves the attachment, and the run service does the rest. What is sent is decided
by the wire's `Presenter`; when, is decided here.
"""

from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.attachment import Attachment, attach
from a2a_gateway.runs.event_log import get_log, log_fault
from a2a_gateway.runs.events import ContentDelta, OptionsIgnored, RunEvent, RunFinished, RunStarted
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.service import RunService
from a2a_gateway.server.request_log import RequestNotes
from a2a_gateway.server.response_writer import ResponseWriter, raw_headers, write_until_client_leaves
from a2a_gateway.server.route_class import internal_error
from a2a_gateway.wire.headers import final_headers, ignored_headers, start_headers
from a2a_gateway.wire.outcome import render_outcome
from a2a_gateway.wire.presenter import Presenter
from delegate_tool.protocol.fields import Header

log = get_log(__name__)


class RunResponse(Response):
    """Runs a request and responds with its events.

    Args:
        ignored: names of the request's fields without effect, those included that the presenter knows.
    """

    def __init__(
        self,
        service: RunService,
        request: RunRequest,
        caller: Caller,
        presenter: Presenter,
        *,
        ignored: Sequence[str],
        notes: RequestNotes,
        heartbeat_s: float,
    ) -> None:
        super().__init__()
        self._service = service
        self._request = request
        self._caller = caller
        self._presenter = presenter
        self._ignored = ignored
        self._notes = notes
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, unless the client leaves first."""
        writer = ResponseWriter(send)
        await write_until_client_leaves(self._respond(writer), writer, receive)

    async def _respond(self, writer: ResponseWriter) -> None:
        headers: dict[str, str] = {Header.REQUEST_ID: self._notes.request_id}
        try:
            async with attach(self._service, self._request, self._caller) as run:
                self._notes.run_id = run.record.id
                headers = start_headers(
                    run.record,
                    request_id=self._notes.request_id,
                    now=self._service.clock.now(),
                    ignored=self._ignored,
                    is_replay=run.is_replay,
                )
                if self._presenter.is_stream:
                    await self._send_stream(run, writer, headers)
                else:
                    await self._send_whole(run, writer, headers)
        except GatewayError as error:
            await writer.write_whole(self._presenter.error(error), headers)
        except OSError:
            return  # the client has left, which is logged with the request
        except Exception as error:
            log_fault(log, "request_failed", request_id=self._notes.request_id)
            if writer.started:
                raise
            await writer.write_whole(self._presenter.error(internal_error(error)), headers)

    async def _send_whole(self, run: Attachment, writer: ResponseWriter, headers: Mapping[str, str]) -> None:
        """Send the whole response once the run has ended."""
        events = list[RunEvent]()
        async for event in run:
            events.append(event)
            if isinstance(event, RunFinished):
                await self._send_end(event, events, writer, headers)

    async def _send_end(
        self, end: RunFinished, events: Sequence[RunEvent], writer: ResponseWriter, headers: Mapping[str, str]
    ) -> None:
        """Send the whole response of a run that has ended, from all its events."""
        answer = render_outcome(end)
        if isinstance(answer, GatewayError):
            response = self._presenter.error(answer)
        else:
            response = self._presenter.whole(answer, end.summary, events)
        await writer.write_whole(response, {**self._with_ignored(headers, events), **final_headers(end.summary)})

    async def _send_stream(self, run: Attachment, writer: ResponseWriter, headers: Mapping[str, str]) -> None:
        """Send the events as they happen. A run that fails before anything could be sent is an error with its own status."""
        renderer = self._presenter.stream(run.record)
        # Prepared while the agent starts, so that its first text need not wait for it.
        opening = renderer.event(RunStarted(run.record))
        raw = raw_headers({**renderer.headers, **headers})
        events = await self._first_events(run)
        if any(isinstance(event, OptionsIgnored) for event in events):
            raw = raw_headers({**renderer.headers, **self._with_ignored(headers, events)})
        if (failed := self._early_failure(events)) is not None:
            return await self._send_end(failed, events, writer, headers)
        await writer.start(200, raw)
        while True:
            shown = [event for event in events if not isinstance(event, RunStarted)]
            body = opening + (b"".join(map(renderer.event, shown)) if shown else renderer.heartbeat())
            opening = b""
            if body or run.has_ended:  # a wire may show nothing of the end, which ends the response all the same
                await writer.write(body, more=not run.has_ended)
                if any(isinstance(event, ContentDelta) for event in shown):
                    run.record_content_sent()
            if run.has_ended:
                return None
            events = await run.take(self._heartbeat_s)

    async def _first_events(self, run: Attachment) -> Sequence[RunEvent]:
        """Wait for what decides the status: an event to show, the end, or a silence too long for a client to wait through."""
        events: list[RunEvent] = []
        while True:
            fresh = await run.take(self._heartbeat_s)
            events += fresh
            if not fresh or run.has_ended or any(map(self._presenter.opens, fresh)):
                return events

    def _early_failure(self, events: Sequence[RunEvent]) -> RunFinished | None:
        """Return the end of a run that failed before there was anything to show."""
        if not events or any(map(self._presenter.opens, events)):
            return None
        end = events[-1]
        return end if isinstance(end, RunFinished) and isinstance(render_outcome(end), GatewayError) else None

    def _with_ignored(self, headers: Mapping[str, str], events: Sequence[RunEvent]) -> Mapping[str, str]:
        """Add the fields that a peer ignores to those that this gateway ignores."""
        names = {name for event in events if isinstance(event, OptionsIgnored) for name in event.names}
        return {**headers, **ignored_headers(sorted({*self._ignored, *names}))} if names else headers
