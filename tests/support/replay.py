"""Serve a recorded provider conversation over real HTTP: the bytes that the provider sent, in the order in which it sent them.

A recording is a vcrpy cassette (version 1). Served rather than patched in, it works for any HTTP client, in this process or in
another, and a stream arrives in pieces as it did from the provider. A recording cannot see what *we* send drift: that is what
`Replay.requests` is for.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from a2a_gateway.testing.serving import serve_app

RECORDINGS: Final = Path(__file__).parent.parent / "recordings"

# They describe the recorded connection, not the answer; this server's own connection has its own.
_TRANSPORT_HEADERS: Final = frozenset(
    {"connection", "content-encoding", "content-length", "date", "keep-alive", "transfer-encoding"}
)


@dataclass(frozen=True, slots=True)
class Interaction:
    """One recorded request and its answer. `path` is without the query; the body of an answer is text, as recorded."""

    path: str
    request_body: Mapping[str, Any]
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str = field(repr=False)

    @property
    def is_stream(self) -> bool:
        """Whether the answer was sent as events."""
        return any(name == "content-type" and value.startswith("text/event-stream") for name, value in self.headers)

    @property
    def asks_for_stream(self) -> bool:
        """Whether the request asked for a stream; a recording without the request's body shows it by its answer."""
        return self.is_stream or _asks_for_stream(self.path, self.request_body)

    @property
    def recorded_cost_usd(self) -> float | None:
        """What the recorder noted that this call cost, where it did."""
        return next((float(value) for name, value in self.headers if name == "x-recorded-cost"), None)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request that a client under test has sent."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any]


def load_recording(name: str) -> Sequence[Interaction]:
    """Read `tests/recordings/NAME`, in recorded order."""
    document = yaml.load((RECORDINGS / name).read_text(), Loader=yaml.CSafeLoader)
    return [_interaction(entry["request"], entry["response"]) for entry in document["interactions"]]


def _interaction(request: Mapping[str, Any], response: Mapping[str, Any]) -> Interaction:
    headers = [
        (name.lower(), value)
        for name, values in response["headers"].items()
        if name.lower() not in _TRANSPORT_HEADERS
        for value in ([values] if isinstance(values, str) else values)
    ]
    return Interaction(
        path=urlsplit(request["uri"]).path,
        request_body=json.loads(request["body"] or "{}"),
        status=response["status"]["code"],
        headers=tuple(headers),
        body=response["body"]["string"],
    )


class Replay:
    """One recording being played.

    A request that is not the recorded one (by path, or by whether it asks for a stream), or that comes after the last, gets a 500
    with the reason.

    Attributes:
        requests: what was received, in order.
        mismatches: why a request was not answered.
    """

    def __init__(self, interactions: Sequence[Interaction]) -> None:
        self._interactions = interactions
        self.restart()

    def restart(self) -> None:
        """Begin again with the first answer, and forget what was received."""
        self.requests: list[ReceivedRequest] = []
        self.mismatches: list[str] = []

    @property
    def is_over(self) -> bool:
        """Whether every recorded answer has been given, and nothing else."""
        return len(self.requests) == len(self._interactions) and not self.mismatches

    def answer(self, received: ReceivedRequest) -> Response:
        """Give the next answer."""
        index = len(self.requests)
        self.requests.append(received)
        if index >= len(self._interactions):
            return self._refuse(f"the recording has {len(self._interactions)} requests, this is one more")
        recorded = self._interactions[index]
        difference = _difference(recorded, received)
        return self._refuse(f"request {index + 1}: {difference}") if difference else _response(recorded)

    def _refuse(self, mismatch: str) -> Response:
        self.mismatches.append(mismatch)
        return JSONResponse({"error": {"message": f"replay: {mismatch}", "code": "replay_mismatch"}}, status_code=500)


@asynccontextmanager
async def serve_replays(replays: Mapping[str, Replay]) -> AsyncIterator[str]:
    """Serve recordings, each below a path of its own; yields the root URL, so that `ROOT/NAME` stands for a provider's server.

    What a client looks up beside its calls (by GET) is refused, and does not count.
    """

    async def answer(request: Request) -> Response:
        body = json.loads(await request.body())
        path = "/" + request.path_params["path"]
        return replays[request.path_params["name"]].answer(ReceivedRequest(path, dict(request.headers), body))

    async with serve_app(Starlette(routes=[Route("/{name}/{path:path}", answer, methods=["POST"])])) as root_url:
        yield root_url


def _difference(recorded: Interaction, received: ReceivedRequest) -> str | None:
    if recorded.path != received.path:
        return f"recorded {recorded.path}, received {received.path}"
    if recorded.asks_for_stream != _asks_for_stream(received.path, received.body):
        return f"recorded {'a stream' if recorded.asks_for_stream else 'no stream'}, received a request for the other"
    return None


def _asks_for_stream(path: str, body: Mapping[str, Any]) -> bool:
    # Gemini has it in the path, all other providers have it in the body.
    return bool(body.get("stream")) or path.endswith(":streamGenerateContent")


def _response(recorded: Interaction) -> Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in recorded.headers]
    response: Response
    if recorded.is_stream:
        response = StreamingResponse(_pieces(recorded.body), status_code=recorded.status)
    else:
        response = Response(recorded.body, status_code=recorded.status)
        headers.append((b"content-length", str(len(response.body)).encode()))
    response.raw_headers = headers
    return response


async def _pieces(body: str) -> AsyncIterator[bytes]:
    for event in events_of(body):
        yield event.encode()


def events_of(body: str) -> Iterator[str]:
    """Split a recorded stream into its events, each with the blank line after it; joined, they are the stream."""
    return (match.group() for match in re.finditer(r".+?(?:\r?\n\r?\n|\Z)|\s+", body, re.DOTALL))
