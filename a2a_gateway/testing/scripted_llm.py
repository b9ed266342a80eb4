"""A scripted LLM: an OpenAI-compatible server that sends the answers of a script over real HTTP, streamed or whole.

Shipped with the gateway: the demo runs on it, the tests drive real agents with it, the benchmark measures against it. `script`
defines scripts, `replies` renders them, `paced_reply` sends them with delays, and `traffic` records requests. This module owns
the socket and detects clients that disconnect. It knows nothing of agents.

In a test's own event loop, in a thread, or as a process of its own:

    async with ScriptedLLM() as llm: ...
    with ScriptedLLM.in_thread() as llm: ...
    python -m a2a_gateway.testing.scripted_llm --port 9000

A process of its own also answers `GET /traffic` (counters) and `POST /gates/NAME` (opens a gate).
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from a2a_gateway.testing.paced_reply import Gates, PacedReply
from a2a_gateway.testing.script import ChatRequest, Director, Script, ScriptError, Step, choose_step
from a2a_gateway.testing.serving import serve_app
from a2a_gateway.testing.traffic import Condition, Traffic

DEFAULT_SCRIPT: Final = Script((Step(content="ok"),))
MODEL: Final = "scripted"


class ScriptedLLM:
    """Serve scripts on a port of this machine while the context manager is open.

    Args:
        default: the script for requests without a marker for which `direct` returns None.
        direct: chooses the answer by a request's content.
        ttft_ms: delay before the first byte, unless the step sets one.
        token_ms: delay between deltas, unless the step sets one.
        port: 0 selects a free one.
        keep: how many of the latest requests to keep; None keeps all.

    Attributes:
        root_url: the server's address without a path, once it serves.
    """

    def __init__(
        self,
        default: Script = DEFAULT_SCRIPT,
        *,
        direct: Director | None = None,
        ttft_ms: float = 0.0,
        token_ms: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int | None = None,
    ) -> None:
        self.default = default
        self.direct = direct
        self.ttft_ms = ttft_ms
        self.token_ms = token_ms
        self.traffic = Traffic(keep)
        self._host = host
        self._port = port
        self.gates = Gates(self.traffic)
        self._answers: set[anyio.CancelScope] = set()

    @classmethod
    @contextmanager
    def in_thread(cls, default: Script = DEFAULT_SCRIPT, **options: Any) -> "Iterator[ScriptedLLM]":
        """Serve from a thread with an event loop of its own, for code without one. Takes the arguments of the class."""
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(cls(default, **options)) as llm:
            yield llm

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._stack = AsyncExitStack()
        self.root_url = await self._stack.enter_async_context(serve_app(self._app(), host=self._host, port=self._port))
        self._stack.callback(self._abandon_answers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _abandon_answers(self) -> None:
        for answer in self._answers:
            answer.cancel()

    @property
    def base_url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"{self.root_url}/v1"

    def open_gate(self, name: str) -> None:
        """Open a gate for all answers, now and later. From any thread."""
        self._loop.call_soon_threadsafe(self.gates.open, name)

    async def wait_until(self, condition: Condition, timeout_s: float = 30.0) -> None:
        """See `Traffic.wait_until`."""
        await self.traffic.wait_until(condition, timeout_s)

    def block_until(self, condition: Condition, timeout_s: float = 30.0) -> None:
        """See `Traffic.block_until`."""
        self.traffic.block_until(condition, timeout_s)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", _ChatEndpoint(self), methods=["POST"]),
                Route("/v1/models", self._list_models),
                Route("/traffic", self._show_traffic),
                Route("/gates/{name}", self._open_gate, methods=["POST"]),
            ]
        )

    async def _list_models(self, request: Request) -> Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "a2a-gateway"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _show_traffic(self, request: Request) -> Response:
        names = ("received", "in_flight", "most_in_flight", "disconnects", "last_received_ns", "last_disconnect_ns")
        return JSONResponse({name: getattr(self.traffic, name) for name in names})

    async def _open_gate(self, request: Request) -> Response:
        self.gates.open(request.path_params["name"])
        return JSONResponse({})


class _ChatEndpoint:
    """The chat route as a bare ASGI application: an answer without delays is one send, without an extra task."""

    def __init__(self, llm: ScriptedLLM) -> None:
        self._llm = llm

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await _read_body(receive)
        traffic = self._llm.traffic
        request, step = self._read(scope, raw)
        traffic.note_request(request)
        disconnected = True
        try:
            answer = PacedReply(request, self._with_delays(step), self._llm.gates, send)
            if answer.waits:
                disconnected = await self._send_until_disconnect(answer, receive)
            else:
                await answer.send()
                disconnected = False
        finally:
            traffic.note_end(request, disconnected=disconnected)

    def _read(self, scope: Scope, raw: bytes) -> tuple[ChatRequest, Step]:
        body: Any = {}
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        fault = None
        try:
            body = json.loads(raw)
        except ValueError as error:
            fault = f"The body is not JSON: {error}."
        if fault is None and not isinstance(body, dict):
            body, fault = {}, "The body is not an object."
        request = ChatRequest(self._llm.traffic.received + 1, body, headers, time.monotonic_ns(), len(raw))
        if fault is not None:
            return request, _refusal(fault, "invalid_request_error")
        try:
            return request, choose_step(request, self._llm.default, self._llm.direct)
        except ScriptError as error:
            return request, _refusal(f"The script cannot be read: {error}", "script_unreadable")

    def _with_delays(self, step: Step) -> Step:
        llm = self._llm
        return replace(
            step,
            ttft_ms=llm.ttft_ms if step.ttft_ms is None else step.ttft_ms,
            token_ms=llm.token_ms if step.token_ms is None else step.token_ms,
        )

    async def _send_until_disconnect(self, answer: PacedReply, receive: Receive) -> bool:
        """Send an answer; return whether the client disconnected before it was complete."""
        complete = disconnected = False
        async with anyio.create_task_group() as tasks:

            async def stop_at_disconnect() -> None:
                nonlocal disconnected
                while (await receive())["type"] != "http.disconnect":
                    pass
                # The server reports the end of a complete response as a disconnect as well.
                disconnected = not complete
                tasks.cancel_scope.cancel()

            self._llm._answers.add(tasks.cancel_scope)
            try:
                tasks.start_soon(stop_at_disconnect)
                await answer.send()
                complete = True
                tasks.cancel_scope.cancel()
            finally:
                self._llm._answers.discard(tasks.cancel_scope)
        return disconnected


def _refusal(message: str, code: str) -> Step:
    return Step(status=400, error=message, code=code, ttft_ms=0, token_ms=0)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def serve_until_signal(llm: ScriptedLLM) -> None:
    """Serve as this process's only work until SIGINT or SIGTERM; the first line on standard output is the base URL."""
    anyio.run(_serve, llm, backend_options={"use_uvloop": sys.platform != "win32"})


async def _serve(llm: ScriptedLLM) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with llm:
        print(llm.base_url, flush=True)  # noqa: T201  # the caller reads the address from standard output
        await stop.wait()


def main() -> None:
    """Serve a scripted LLM until SIGINT or SIGTERM; the first line on standard output is its base URL."""
    parser = argparse.ArgumentParser(prog="python -m a2a_gateway.testing.scripted_llm", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-ms", type=float, default=0.0)
    parser.add_argument("--token-ms", type=float, default=0.0)
    parser.add_argument("--demo", action="store_true", help="answer as the agents of the demo")
    options = parser.parse_args()
    llm = ScriptedLLM(
        direct=_demo_director() if options.demo else None,
        ttft_ms=options.ttft_ms,
        token_ms=options.token_ms,
        host=options.host,
        port=options.port,
        keep=100,
    )
    serve_until_signal(llm)


def _demo_director() -> Director:
    from a2a_gateway.testing.demo import direct_demo

    return direct_demo


if __name__ == "__main__":
    main()
