"""The response to one chat completion, streamed or whole: from the run's events to bytes on the socket.

A response is an ASGI application of its own, because one place must see both the client's socket and the run: a client that hangs
up, before admission or in mid-stream, leaves the `listen` scope, and the run service does the rest. The status is sent with the
first fact that a client can use, so a run that fails before it has said anything is an HTTP error in both modes.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.errors import GatewayError, InternalError
from a2a_gateway.runs.events import ContentDelta, OptionsIgnored, ReasoningDelta, RunEvent, RunFinished, RunStarted, ToolStarted
from a2a_gateway.runs.live import Listener, LiveRun
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.runs.service import RunService
from a2a_gateway.wire.chat.response import ChunkRenderer, render_completion
from a2a_gateway.wire.errors import render_error
from a2a_gateway.wire.headers import final_headers, ignored_headers, start_headers
from a2a_gateway.wire.json_bytes import encode_json
from a2a_gateway.wire.outcome import render_outcome

log = structlog.get_logger(__name__)

_SHOWN = ContentDelta | ReasoningDelta | ToolStarted
"""Events after which a stream has begun."""
_JSON_HEADERS = {"content-type": "application/json"}
SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


type RawHeaders = list[tuple[bytes, bytes]]
"""Headers as ASGI has them."""


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Encode headers."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


@dataclass(slots=True)
class Outlet:
    """The client's socket, as far as one response uses it."""

    send: Send
    started: bool = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        await self.start_raw(status, raw_headers(headers))

    async def start_raw(self, status: int, headers: RawHeaders) -> None:
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        await self.start(status, {**_JSON_HEADERS, **headers, "content-length": str(len(body))})
        await self.write(body, more=False)

    async def error(self, error: GatewayError, headers: Mapping[str, str]) -> None:
        status, own_headers, body = render_error(error)
        await self.whole(status, {**headers, **own_headers}, encode_json(body))


class RunResponse(Response):
    """Runs a request, and answers with what comes of it."""

    def __init__(self, service: RunService, request: RunRequest, caller: Caller, *, request_id: str, heartbeat_s: float) -> None:
        super().__init__()
        self._service = service
        self._request = request
        self._caller = caller
        self._request_id = request_id
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client leaves first."""
        outlet = Outlet(send)
        await unless_the_client_leaves(self._answer(outlet), outlet, receive)

    async def _answer(self, outlet: Outlet) -> None:
        headers = {"X-Request-ID": self._request_id}
        try:
            live, is_replay = await self._service.start(self._request, self._caller)
            headers = start_headers(
                live.record,
                request_id=self._request_id,
                now=self._service.clock.now(),
                ignored=self._request.ignored,
                is_replay=is_replay,
            )
            with live.listen() as listener:
                await (self._stream if self._request.stream else self._complete)(live, listener, outlet, headers)
            self._service.deduplication.note_received(live)
        except GatewayError as error:
            await outlet.error(error, headers)
        except OSError:
            log.info("client_lost", request_id=self._request_id)
        except Exception as error:
            log.exception("request_failed", request_id=self._request_id)
            if outlet.started:
                raise
            await outlet.error(
                InternalError(f"The gateway failed to answer ({type(error).__name__}); its log says more."), headers
            )

    async def _complete(self, live: LiveRun, listener: Listener, outlet: Outlet, headers: Mapping[str, str]) -> None:
        """Send the answer whole, once there is one."""
        reasoning: list[str] = []
        while True:
            for event in await listener.take():
                if isinstance(event, ReasoningDelta):
                    reasoning.append(event.text)
                elif isinstance(event, OptionsIgnored):
                    headers = self._with_ignored(headers, [event])
                elif isinstance(event, RunFinished):
                    return await self._whole(live, event, "".join(reasoning), outlet, headers)

    async def _whole(
        self, live: LiveRun, finished: RunFinished, reasoning: str, outlet: Outlet, headers: Mapping[str, str]
    ) -> None:
        headers = {**headers, **final_headers(finished.summary)}
        answer = render_outcome(finished)
        if isinstance(answer, GatewayError):
            return await outlet.error(answer, headers)
        gateway_id = self._service.policy.gateway_id
        body = render_completion(
            answer,
            finished.summary,
            model=self._request.model,
            created=int(live.record.created_at),
            gateway_id=gateway_id,
            reasoning=reasoning,
        )
        await outlet.whole(200, headers, body)
        return None

    async def _stream(self, live: LiveRun, listener: Listener, outlet: Outlet, headers: Mapping[str, str]) -> None:
        """Send chunks as the events happen. A run that fails before anything could be said is an error with its own status."""
        renderer = ChunkRenderer(
            live.record.id,
            self._request.model,
            int(live.record.created_at),
            # Who delegates must know what the child cost, whether or not its client thought of asking.
            include_usage=self._request.include_usage or self._caller.run is not None,
            gateway_id=self._service.policy.gateway_id,
        )
        # Made ready while the agent gets going, so that its first word need not wait for it.
        opening, raw = renderer.render(RunStarted(live.record)), raw_headers({**SSE_HEADERS, **headers})
        events = await self._first_events(listener)
        if any(isinstance(event, OptionsIgnored) for event in events):
            headers = self._with_ignored(headers, events)
            raw = raw_headers({**SSE_HEADERS, **headers})
        failed = _failure(events)
        if failed is not None:
            return await self._whole(live, failed, "", outlet, headers)
        await outlet.start_raw(200, raw)
        while True:
            told = [event for event in events if not isinstance(event, RunStarted)]
            last = bool(told) and isinstance(told[-1], RunFinished)
            body = opening + (b"".join(map(renderer.render, told)) if told else renderer.heartbeat())
            opening = b""
            if body:
                await outlet.write(body, more=not last)
                if any(isinstance(event, ContentDelta) for event in told):
                    live.receive_text()
            if last:
                return None
            events = await listener.take(self._heartbeat_s)

    def _with_ignored(self, headers: Mapping[str, str], events: Sequence[RunEvent]) -> Mapping[str, str]:
        """Add what a peer ignores to what this gateway does."""
        names = {name for event in events if isinstance(event, OptionsIgnored) for name in event.names}
        return {**headers, **ignored_headers(sorted({*self._request.ignored, *names}))}

    async def _first_events(self, listener: Listener) -> Sequence[RunEvent]:
        """Wait for what decides the status: something to show, the end, or a silence too long to keep a client in."""
        events: list[RunEvent] = []
        while True:
            fresh = await listener.take(self._heartbeat_s)
            events += fresh
            if not fresh or any(isinstance(event, _SHOWN | RunFinished) for event in events):
                return events


def _failure(events: Sequence[RunEvent]) -> RunFinished | None:
    """Return the end of a run that failed before it showed anything."""
    if not events or any(isinstance(event, _SHOWN) for event in events):
        return None
    end = events[-1]
    return end if isinstance(end, RunFinished) and isinstance(render_outcome(end), GatewayError) else None


async def unless_the_client_leaves(answer: Coroutine[None, None, None], outlet: Outlet, receive: Receive) -> None:
    """Send an answer to its end, or until the client has hung up; the request's body has been read by now."""
    answering, leaving = asyncio.create_task(answer), asyncio.create_task(_client_leaves(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.wait({answering, leaving})
    if not answering.cancelled():
        answering.result()
    elif not outlet.started:
        # Nobody reads it, but a middleware of the application around may take a response without any for a failure.
        await outlet.start(499, {})
        await outlet.write(b"", more=False)


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
