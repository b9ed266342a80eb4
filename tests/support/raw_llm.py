"""An HTTP server that answers with exactly the bytes that it is given, as providers and home-made servers send them."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio.from_thread import start_blocking_portal

from tests.support.raw_http import RawRequest, raw_server, url_of


@dataclass(frozen=True, slots=True)
class RawReply:
    """One answer: its pieces are sent as chunks of HTTP, one by one.

    Attributes:
        is_cut: close the connection after the last piece, instead of ending the answer.
    """

    pieces: tuple[bytes, ...]
    content_type: str = "text/event-stream"
    status: int = 200
    is_gzip: bool = False
    is_cut: bool = False


def stream_reply(*pieces: str | bytes, **more: Any) -> RawReply:
    """Return a reply that streams these pieces."""
    return RawReply(tuple(piece.encode() if isinstance(piece, str) else piece for piece in pieces), **more)


def document_reply(answer: Mapping[str, Any], **more: Any) -> RawReply:
    """Return a reply that is one JSON document."""
    return RawReply((json.dumps(answer).encode(),), content_type="application/json", **more)


@dataclass
class RawLLM:
    """Sends the replies in turn, and the last one to all further requests.

    Attributes:
        requests: what was received, in order.
        model_questions: how often Ollama's information about a model was asked for, which `requests` does not contain.
    """

    replies: Sequence[RawReply]
    requests: list[RawRequest] = field(default_factory=list)
    model_questions: int = 0

    @contextmanager
    def in_thread(self) -> Iterator[str]:
        """Serve it on a loop of its own, because LiteLLM asks Ollama for a model's abilities with a blocking request."""
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(self.serving()) as url:
            yield url

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve it; yields the root URL."""
        async with raw_server(self._answer) as server:
            yield url_of(server)

    async def _answer(self, request: RawRequest, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("/api/show"):
            self.model_questions += 1
            reply = RawReply((), status=404)
        else:
            self.requests.append(request)
            reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        await _send(reply, writer)


async def _send(reply: RawReply, writer: asyncio.StreamWriter) -> None:
    encoding = "content-encoding: gzip\r\n" if reply.is_gzip else ""
    writer.write(
        f"HTTP/1.1 {reply.status} OK\r\ncontent-type: {reply.content_type}\r\n{encoding}"
        "transfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode()
    )
    pieces = (gzip.compress(b"".join(reply.pieces)),) if reply.is_gzip else reply.pieces
    for piece in filter(None, pieces):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    if not reply.is_cut:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
