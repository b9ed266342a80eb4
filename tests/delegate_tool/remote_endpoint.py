"""A real HTTP server that plays the endpoint of a delegation: its agents, and the LLM of the agent that delegates."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

LLM = "scripted"


@dataclass(frozen=True)
class Answer:
    """Streams `pieces`, then the finish reason, then usage, then [DONE]. With `meet`, waits for others of that barrier first."""

    pieces: Sequence[str] = ("ok",)
    usage: Mapping[str, Any] = field(default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12})
    headers: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str | None = "stop"
    meet: asyncio.Barrier | None = None


@dataclass(frozen=True)
class Refusal:
    """Answers with an error status and OpenAI's error object."""

    status: int
    error: Any
    headers: Mapping[str, str] = field(default_factory=lambda: {"x-should-retry": "false"})


@dataclass(frozen=True)
class Raw:
    """Streams these bytes under a 200; `cut` breaks the connection instead of ending the body."""

    data: bytes
    cut: bool = False


@dataclass(frozen=True)
class Hang:
    """Streams `pieces` and then nothing, until the client is gone. Without pieces not even the headers are sent."""

    pieces: Sequence[str] = ()


type Behaviour = Answer | Refusal | Raw | Hang


@dataclass(frozen=True)
class Received:
    """One request as the server received it."""

    model: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


class RemoteEndpoint:
    """The server's script and its log. A model's behaviours are played in order; the last one stays."""

    def __init__(self) -> None:
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.models: list[dict[str, Any]] | str | None = []
        self.received: list[Received] = []
        self.cancelled: list[str] = []
        self.hanging = 0
        self.disconnects = 0
        self.base_url = ""
        self._changed = threading.Condition()

    def plays(self, model: str, *behaviours: Behaviour) -> None:
        self.behaviours[model] = list(behaviours)

    def llm_says(self, *turns: Mapping[str, Any]) -> None:
        """Script the LLM: each turn is an assistant message."""
        self.behaviours[LLM] = [Raw(json.dumps(_completion(turn)).encode()) for turn in turns]

    def requests_to(self, model: str) -> list[Received]:
        return [received for received in self.received if received.model == model]

    def wait_for(self, condition: Callable[["RemoteEndpoint"], bool]) -> None:
        """Block until the log fulfils a condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout=20), "the server never received it"

    def note(self, *, hanging: int = 0, disconnects: int = 0) -> None:
        with self._changed:
            self.hanging += hanging
            self.disconnects += disconnects
            self._changed.notify_all()

    async def chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        script = self.behaviours[body["model"]]
        behaviour = script.pop(0) if len(script) > 1 else script[0]
        self.received.append(Received(body["model"], body, dict(request.headers)))
        self.note()
        match behaviour:
            case Answer():
                return StreamingResponse(_stream(behaviour), media_type="text/event-stream", headers=dict(behaviour.headers))
            case Refusal():
                return JSONResponse({"error": behaviour.error}, behaviour.status, dict(behaviour.headers))
            case Raw():
                kind = "application/json" if body["model"] == LLM else "text/event-stream"
                return StreamingResponse(_raw(behaviour), media_type=kind)
            case Hang(pieces=()):
                return await self._hang(request)
            case Hang():
                return StreamingResponse(self._hang_after(behaviour.pieces, request), media_type="text/event-stream")

    async def list_models(self, request: Request) -> Response:
        if self.models is None:
            return JSONResponse({"error": {"message": "no such route"}}, 404)
        if isinstance(self.models, str):
            return Response(self.models, media_type="text/html" if self.models.startswith("<") else "application/json")
        return JSONResponse({"object": "list", "data": self.models})

    async def cancel_run(self, request: Request) -> Response:
        self.cancelled.append(request.headers["idempotency-key"])
        self.note()
        return JSONResponse({})

    async def _hang(self, request: Request) -> Response:
        self.note(hanging=1)
        assert (await request.receive())["type"] == "http.disconnect"
        self.note(hanging=-1, disconnects=1)
        return Response()

    async def _hang_after(self, pieces: Sequence[str], request: Request) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield _event(_chunk(piece))
        await self._hang(request)


def endpoint_app(endpoint: RemoteEndpoint) -> Starlette:
    return Starlette(
        routes=[
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
            Route("/v1/models", endpoint.list_models),
            Route("/v1/runs/cancel", endpoint.cancel_run, methods=["POST"]),
        ]
    )


def tool_call(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def calls(*tool_calls: dict[str, Any]) -> dict[str, Any]:
    """Return an assistant message that calls tools."""
    return {"role": "assistant", "content": None, "tool_calls": list(tool_calls)}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def sse(*payloads: Any, done: bool = True) -> bytes:
    return b"".join(_event(payload) for payload in payloads) + (b"data: [DONE]\n\n" if done else b"")


def chunk(content: str | None = None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return _chunk(content, finish_reason) | more


def _chunk(content: str | None = None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def _completion(message: Mapping[str, Any]) -> dict[str, Any]:
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": LLM,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def _event(payload: Any) -> bytes:
    return f"data: {json.dumps(payload)}\n\n".encode()


async def _stream(answer: Answer) -> AsyncIterator[bytes]:
    if answer.meet is not None:
        await answer.meet.wait()
    for piece in answer.pieces:
        yield _event(_chunk(piece))
    yield _event(_chunk(finish_reason=answer.finish_reason))
    yield _event(_chunk() | {"choices": [], "usage": dict(answer.usage)})
    yield b"data: [DONE]\n\n"


async def _raw(raw: Raw) -> AsyncIterator[bytes]:
    yield raw.data
    if raw.cut:
        raise ConnectionAbortedError
