"""HTTP as strangers speak it: bare sockets, and what is no request of ours."""

import gzip
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from a2a_gateway.testing.script import Step
from tests.support.ask import user
from tests.support.gateway import GatewayUnderTest

CHAT = "/v1/chat/completions"


def connect(gateway: GatewayUnderTest) -> socket.socket:
    url = urlsplit(gateway.base_url)
    return socket.create_connection((url.hostname, url.port), timeout=60)


def answer_to(connection: socket.socket) -> tuple[int, str]:
    """Status and error code of what comes until the other side hangs up."""
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


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_client_that_offers_http_2_as_javas_does_is_answered_in_http_1(gateway: GatewayUnderTest, pieces: int) -> None:
    asked = json.dumps({"model": "openhands_priced", "messages": [user("Hi", Step(content="Upgrade: no"))]}).encode()
    offer = "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: h2c\r\n"
    keys = f"Authorization: Bearer {gateway.key}\r\nContent-Length: {len(asked)}\r\n"
    head = f"POST {CHAT} HTTP/1.1\r\n{offer}Host: x\r\n{keys}\r\n".encode()
    with connect(gateway) as connection:
        for _ in range(2):  # on one connection
            connection.sendall(head if pieces == 2 else head + asked)
            if pieces == 2:
                connection.sendall(asked)
            assert b'"content":"Upgrade: no"' in connection.recv(65_536)


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
