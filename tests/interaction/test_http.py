"""HTTP from unknown clients: bare sockets, and requests that no proper client sends."""

import asyncio
import contextlib
import gzip
import http.client
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from typing import cast
from urllib.parse import urlsplit

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from a2a_gateway.server.request_framing import HEAD_BYTES
from a2a_gateway.testing.script import Gate, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import user
from tests.support.gateway import GatewayUnderTest

CHAT = "/v1/chat/completions"


def connect(gateway: GatewayUnderTest) -> socket.socket:
    url = urlsplit(gateway.base_url)
    return socket.create_connection((url.hostname, url.port), timeout=60)


def answer_to(connection: socket.socket) -> tuple[int, str]:
    """Read until the gateway hangs up; return status and error code."""
    with connection.makefile("rb") as received:
        head, _, body = received.read().partition(b"\r\n\r\n")
    assert b"\r\nx-should-retry: false" in head
    assert b"\r\nconnection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"HELLO\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
    ],
    ids=["tls", "text", "two-lengths", "length-and-chunks", "bad-chunk"],
)
def test_what_is_no_http_is_an_error_of_the_usual_shape(gateway: GatewayUnderTest, sent: bytes) -> None:
    with connect(gateway) as connection:
        connection.sendall(sent)
        assert answer_to(connection) == (400, "invalid_request_error")


@pytest.mark.parametrize("name", [b"X-Long: ", b""], ids=["one-long-header", "many-headers"])
def test_a_head_without_end_is_refused_though_nobody_has_shown_a_key(gateway: GatewayUnderTest, name: bytes) -> None:
    piece = b"x" * 1000 if name else b"X-Some: thing\r\n" * 60
    with connect(gateway) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + name)
        refused = _send_until_refused(connection, piece)
    assert refused


def test_trailers_without_end_close_the_connection(gateway: GatewayUnderTest) -> None:
    with connect(gateway) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"2\r\n{}\r\n0\r\n")
        assert _send_until_refused(connection, b"X-Some: thing\r\n" * 60)


def _send_until_refused(connection: socket.socket, piece: bytes) -> bool:
    try:
        for _ in range(20_000):
            connection.sendall(piece)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_large_heads_and_bodies_in_many_pieces_are_taken(gateway: GatewayUnderTest) -> None:
    with connect(gateway) as connection:
        head = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nX-Long: {'x' * 200_000}\r\n\r\n"
        for _ in range(3):  # what counts is each head alone
            connection.sendall(head.encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def head_of(size_bytes: int, name: bytes = b"X-Long") -> bytes:
    """Return the head of a request, of that size."""
    bare = b"GET /health HTTP/1.1\r\nHost: x\r\n" + name + b": \r\n\r\n"
    return bare.replace(b": \r\n\r\n", b": " + b"x" * (size_bytes - len(bare)) + b"\r\n\r\n")


@pytest.mark.parametrize("before", [b"", head_of(500)], ids=["first", "pipelined"])
@pytest.mark.parametrize("reads", [1, 2, 7])
def test_the_bound_of_a_head_is_exact_however_it_is_sent(gateway: GatewayUnderTest, before: bytes, reads: int) -> None:
    for size_bytes, status in ((HEAD_BYTES, b"200"), (HEAD_BYTES + 1, b"413"), (300_000, b"413")):
        sent = before + head_of(size_bytes)
        with connect(gateway) as connection:
            for at in range(reads):
                connection.sendall(sent[len(sent) * at // reads : len(sent) * (at + 1) // reads])
            statuses = statuses_of(connection, answers=2 if before else 1)
        assert statuses == [*([b"200"] if before else []), status]


def statuses_of(connection: socket.socket, answers: int) -> list[bytes]:
    """Read the statuses of the first answers; fewer if the gateway hangs up."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while received.count(b"HTTP/1.1 ") < answers and (data := connection.recv(65_536)):
            received += data
    return re.findall(rb"HTTP/1\.1 (\d+)", received)


@pytest.mark.parametrize("part", ["extension", "trailers"])
def test_the_bound_of_what_frames_a_chunked_body_is_exact(gateway: GatewayUnderTest, part: str) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    for excess, status in ((0, b"400"), (1, b"413")):  # 400 is the application's own answer to the body
        if part == "extension":
            body = b"2;x=" + b"x" * (HEAD_BYTES - 6 + excess) + b"\r\n{}\r\n0\r\n\r\n"
        else:
            body = b"2\r\n{}\r\n0\r\nX-Long: " + b"x" * (HEAD_BYTES - 12 + excess) + b"\r\n\r\n"
        for sent in ([head + body], [head, body[:1000], body[1000:]]):
            with connect(gateway) as connection:
                for piece in sent:
                    connection.sendall(piece)
                assert statuses_of(connection, answers=1) == [status]


OFFER = "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: h2c\r\n"


def offering_request(gateway: GatewayUnderTest, text: str, *, chunked: bool = False) -> tuple[bytes, bytes]:
    """Head and body of a request as Java's client sends it: an offer of HTTP/2 on the first request of a connection."""
    asked = json.dumps({"model": "openhands_priced", "messages": [user("Hi", Step(content=text))]}).encode()
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(asked), asked) if chunked else asked
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(asked)}"
    head = f"POST {CHAT} HTTP/1.1\r\n{OFFER}Host: x\r\nAuthorization: Bearer {gateway.key}\r\n{framing}\r\n\r\n"
    return head.encode(), body


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = connection.recv(65_536)
        assert data, received
        received += data
    return received


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("cuts", [(), (-1,), (30,), (30, 100, -1)], ids=["one", "at-body", "in-head", "three"])
def test_a_client_that_offers_http_2_as_javas_does_is_answered_in_http_1(
    gateway: GatewayUnderTest, cuts: tuple[int, ...], chunked: bool
) -> None:
    head, body = offering_request(gateway, "Upgrade: no", chunked=chunked)
    ends = [*(len(head) if cut < 0 else cut for cut in cuts), len(head + body)]
    with connect(gateway) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):  # on one connection
            for start, end in pairwise([0, *ends]):
                connection.sendall((head + body)[start:end])
            read_until(connection, b'"content":"Upgrade: no"')


def test_offers_of_http_2_in_pipelined_requests_are_declined(gateway: GatewayUnderTest) -> None:
    plain = head_of(200)
    with connect(gateway) as connection:
        first, second = (b"".join(offering_request(gateway, f"Number {number}")) for number in (1, 2))
        connection.sendall(plain + first + plain + second)
        received = read_until(connection, b'"content":"Number 2"')
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"200"] * 4
    assert b'"content":"Number 1"' in received


def a_run(gateway: GatewayUnderTest, step: Step, *, version: str, stream: bool) -> bytes:
    """Encode a request for a run."""
    asked = json.dumps({"model": "openhands_mute", "messages": [user("Hi", step)], "stream": stream}).encode()
    head = f"POST {CHAT} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nContent-Length: {len(asked)}\r\n\r\n"
    return head.encode() + asked


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_ends_its_side_and_reads_on_gets_its_answer(
    gateway: GatewayUnderTest, llm: ScriptedLLM, stream: bool
) -> None:
    step = Step(content="Here", gate=Gate(f"half-{stream}"))
    with connect(gateway) as connection:
        connection.sendall(a_run(gateway, step, version="1.1", stream=stream))
        await llm.wait_until(lambda traffic: traffic.in_flight == 1)
        head = read_until(connection, b"\r\n\r\n") if stream else b""  # sent with the first heartbeat
        connection.shutdown(socket.SHUT_WR)
        probed = connection.recv(65_536) + connection.recv(65_536)  # by now a client that has left would be known
        llm.open_gate(f"half-{stream}")
        with connection.makefile("rb") as rest:
            received = head + probed + rest.read()
    answers = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    response = http.client.HTTPResponse(cast("socket.socket", Received(answers)))
    response.begin()
    assert response.status == 200
    assert b"Here" in response.read()  # also decoded from chunks, with what was sent before their sizes


class Received:
    """Bytes, as a socket from which they can be read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_short_answer_is_sent_to_a_client_that_has_ended_its_side(gateway: GatewayUnderTest, version: str) -> None:
    with connect(gateway) as connection:
        connection.sendall(f"GET /health HTTP/{version}\r\nHost: x\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as received:
            answer = received.read()
    assert answer.endswith(b'{"status":"ok"}')


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("way", ["directly", "forwarded"])
async def test_a_client_that_closes_its_connection_ends_its_run(
    gateway: GatewayUnderTest, llm: ScriptedLLM, version: str, stream: bool, way: str
) -> None:
    with contextlib.ExitStack() as stack:
        port = urlsplit(gateway.base_url).port
        assert port is not None
        if way == "forwarded":
            port = stack.enter_context(forwarding(port))
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(a_run(gateway, Step(hang=True), version=version, stream=stream))
        await llm.wait_until(lambda traffic: traffic.in_flight == 1)
        connection.close()
        await llm.wait_until(lambda traffic: traffic.in_flight == 0)


@contextlib.contextmanager
def forwarding(port: int) -> Iterator[int]:
    """Forward connections as ssh and Docker do: an end of one side is passed on, and no more is known until writing fails."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, far_writer))
                both.create_task(_forward(far_reader, writer))
        for each in (writer, far_writer):
            each.transport.abort()

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_listening(forward)) as own_port:
        yield own_port


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@contextlib.asynccontextmanager
async def _listening(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.anyio
async def test_a_packed_body_is_said_to_be_one(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        packed = await http.post(CHAT, content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"})
    assert (packed.status_code, packed.json()["error"]["param"]) == (400, "Content-Encoding")


@pytest.mark.anyio
async def test_a_parameter_that_no_key_can_be_is_the_callers_error(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        answers = [await http.get(f"/v1/runs?idempotency_key={key}") for key in ("%00", "", "two%20words", "x" * 256)]
        none = await http.get("/v1/runs?idempotency_key=unheard-of")
    told = {(answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]) for answer in answers}
    assert told == {(400, "invalid_request_error", "idempotency_key")}
    assert none.json() == {"object": "list", "data": []}


@pytest.mark.anyio
async def test_who_asks_for_a_websocket_is_answered_in_http(gateway: GatewayUnderTest) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "a" * 24}
    async with gateway.http() as http:
        answer = await http.get("/v1/realtime", headers=upgrade)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.anyio
async def test_a_method_or_a_path_that_there_is_not_is_told_with_what_there_is(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        method = await http.get(CHAT)
        slash = await http.post(f"{CHAT}/", json={})
    assert (method.status_code, method.json()["error"]["code"], method.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert (slash.status_code, slash.json()["error"]["code"]) == (404, "not_found")
    assert all(httpx.Headers(response.headers)["x-request-id"].startswith("req_") for response in (method, slash))
