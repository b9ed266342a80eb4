"""Requests however they are cut into reads: an application sees the same ones."""

import asyncio
from dataclasses import dataclass

import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from a2a_gateway.server.connection_limits import ConnectionLimits
from a2a_gateway.server.http_protocol import GatewayHttpProtocol

LIMITS = ConnectionLimits(max_connections=10, head_timeout_s=60, body_timeout_s=60)


@dataclass(frozen=True)
class Asked:
    """A request; `chunks` is None for a body with a length."""

    path: str
    body: bytes
    chunks: int | None
    offers_h2c: bool
    trailer: bytes

    def encode(self) -> bytes:
        offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n" if self.offers_h2c else b""
        head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\n".encode() + offer
        if self.chunks is None:
            return head + b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body
        pieces = [self.body[at : at + self.chunks] for at in range(0, len(self.body), self.chunks)]
        framed = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + self.trailer + b"\r\n"


class Memory(asyncio.Transport):
    """A transport that sends into memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def seen_by_an_application(reads: list[bytes], requests: int) -> list[tuple[str, bytes, list[bytes]]]:
    """Path, body and header names of each request that an application sees."""
    seen: list[tuple[str, bytes, list[bytes]]] = []
    all_seen = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        seen.append((scope["path"], body, [name for name, _ in scope["headers"]]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        if len(seen) == requests:
            all_seen.set()

    config = uvicorn.Config(application, ws="none", lifespan="off", log_config=None)
    protocol = GatewayHttpProtocol(config, ServerState(), {}, asyncio.get_running_loop(), limits=LIMITS)
    protocol.connection_made(Memory())
    for read in reads:
        protocol.data_received(read)
    async with asyncio.timeout(2):
        await all_seen.wait()
    protocol.connection_lost(None)
    return seen


paths = st.sampled_from(["/", "/v1/chat/completions", "/%20"])
bodies = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"", b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\n" * 30])
)
trailers = st.sampled_from([b"", b"X-A: b\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n"])
asked = st.builds(Asked, paths, bodies, st.one_of(st.none(), st.integers(1, 20)), st.booleans(), trailers)


@settings(max_examples=100, deadline=None)
@given(st.lists(asked, min_size=1, max_size=4), st.lists(st.integers(0, 600), max_size=12))
def test_requests_are_the_same_however_they_are_cut(requests: list[Asked], cuts: list[int]) -> None:
    sent = b"".join(request.encode() for request in requests)
    ends = sorted({min(cut, len(sent)) for cut in cuts} | {len(sent)})
    reads = [sent[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]
    seen = asyncio.run(seen_by_an_application(reads, len(requests)))
    assert [(path, body) for path, body, _ in seen] == [(request.path.replace("%20", " "), request.body) for request in requests]
    assert all(names.count(b"host") == 1 and b"x-a" not in names and len(set(names)) == len(names) for _, _, names in seen)
