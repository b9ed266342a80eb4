"""Send one scripted answer with its delays, its gate and its end. Uses ASGI's `send`; knows no sockets and no routes."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import anyio
from starlette.types import Send

from a2a_gateway.testing import replies
from a2a_gateway.testing.script import ChatRequest, Gate, Step
from a2a_gateway.testing.traffic import Traffic

_NOW: Final = b"$NOW"


class Gates:
    """Named points at which answers wait. A gate that has been opened stays open. Belongs to one event loop."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._events: dict[str, asyncio.Event] = {}

    def open(self, name: str) -> None:
        """Open a gate for all answers, now and later."""
        self._events.setdefault(name, asyncio.Event()).set()

    async def pass_through(self, gate: Gate) -> None:
        """Wait until a gate is open."""
        waiting = self._traffic.note_gate(gate.name, +1)
        try:
            if gate.opens_at is not None and waiting >= gate.opens_at:
                self.open(gate.name)
            await self._events.setdefault(gate.name, asyncio.Event()).wait()
        finally:
            self._traffic.note_gate(gate.name, -1)


class PacedReply:
    """The answer to one request, sent with the delays of its step."""

    def __init__(self, request: ChatRequest, step: Step, gates: Gates, send: Send) -> None:
        self._request = request
        self._step = step
        self._gates = gates
        self._send = send
        self._ttft_s = (step.ttft_ms or 0.0) / 1000
        self._token_s = (step.token_ms or 0.0) / 1000

    @property
    def waits(self) -> bool:
        """Whether the answer takes time, so that the client may disconnect before it is complete."""
        return self._step.hang or self._step.barrier is not None or self._ttft_s > 0 or self._token_s > 0

    async def send(self) -> None:
        """Send the answer, each part when it is due."""
        if self._step.hang:
            await anyio.sleep_forever()
        await self._pass_gate(0)
        if self._ttft_s:
            await anyio.sleep(self._ttft_s)
        if self._step.status != 200:
            await self._send_whole(replies.render_error(self._step))
        elif self._request.stream:
            await self._send_stream()
        else:
            await self._send_completion()

    async def _send_completion(self) -> None:
        if self._token_s:
            await anyio.sleep(self._token_s * len(replies.words(self._step.text or "")))
        await self._send_whole(replies.render_completion(self._request, self._step))

    async def _send_whole(self, body: bytes) -> None:
        await self._start("application/json", {"content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body})

    async def _send_stream(self) -> None:
        frames = replies.render_frames(self._request, self._step)
        end = replies.render_end(self._request, self._step)
        await self._start("text/event-stream", {"cache-control": "no-cache"})
        if self._step.drop_after is not None:
            # An ASGI application cuts the connection by leaving a response unfinished.
            await self._send_frames(frames[: self._step.drop_after])
        elif self.waits:
            await self._send_frames(frames)
            await self._send({"type": "http.response.body", "body": end})
        else:
            await self._send({"type": "http.response.body", "body": _stamp(b"".join(frames)) + end})

    async def _send_frames(self, frames: list[bytes]) -> None:
        due = time.monotonic()
        for index, frame in enumerate(frames):
            if index:
                await self._pass_gate(index)
            # The first frame has only the role; it is sent together with the first token, as by a real LLM.
            if self._token_s and index > 1:
                due += self._token_s
                await anyio.sleep(max(0.0, due - time.monotonic()))
            await self._send({"type": "http.response.body", "body": _stamp(frame), "more_body": True})

    async def _pass_gate(self, sent: int) -> None:
        gate = self._step.barrier
        if gate is not None and gate.after == sent:
            await self._gates.pass_through(gate)

    async def _start(self, content_type: str, headers: Mapping[str, str]) -> None:
        every = {"content-type": content_type, **headers, **self._step.headers}
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in every.items()]
        await self._send({"type": "http.response.start", "status": self._step.status, "headers": encoded})


def _stamp(frame: bytes) -> bytes:
    return frame.replace(_NOW, str(time.monotonic_ns()).encode()) if _NOW in frame else frame
