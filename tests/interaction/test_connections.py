"""Connections that are slow, unfinished or too many: what they may take, and what they may not take from others."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from a2a_gateway.testing.script import Gate, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.until import until

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
AGENT = "openhands_default"
MOST = 6
LIMIT_BYTES = 512 * 1024
SETTINGS: dict[str, Any] = {
    "max_connections": MOST,
    "head_timeout_s": 0.3,
    "body_timeout_s": 0.3,
    "body_limit_bytes": LIMIT_BYTES,
    "body_memory_bytes": 2 * LIMIT_BYTES,
    "queue_timeout_s": 0.3,
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    """A gateway with little patience and few connections."""
    with scripted_gateway(tmp_path_factory.mktemp("strict"), **SETTINGS) as pair:
        yield pair


@pytest.fixture
def gateway(strict: tuple[GatewayUnderTest, ScriptedLLM]) -> GatewayUnderTest:
    return strict[0]


@pytest.fixture
def llm(strict: tuple[GatewayUnderTest, ScriptedLLM]) -> ScriptedLLM:
    return strict[1]


@contextlib.contextmanager
def connect(gateway: GatewayUnderTest, *sent: bytes) -> Iterator[socket.socket]:
    url = urlsplit(gateway.base_url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        for piece in sent:
            connection.sendall(piece)
        yield connection


def answer_to(connection: socket.socket) -> tuple[int, str] | None:
    """Read until the gateway hangs up; return status and error code; None if it sends nothing."""
    with connection.makefile("rb") as received:
        head, _, body = received.read().partition(b"\r\n\r\n")
    return (int(head.split()[1]), json.loads(body)["error"]["code"]) if head else None


def head(key: str, *, length: int | None = None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{framing}\r\n\r\n".encode()


def request(key: str, text: str, step: Step, *, stream: bool = False) -> bytes:
    body = json.dumps({"model": AGENT, "messages": [user(text, step)], "stream": stream}).encode()
    return head(key, length=len(body)) + body


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", None),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", (408, "request_timeout")),
        (b"\r\n\r\nGE", (408, "request_timeout")),
    ],
    ids=["nothing", "half-a-head", "hardly-any"],
)
async def test_a_head_that_is_never_finished_ends_its_connection(
    gateway: GatewayUnderTest, sent: bytes, answer: tuple[int, str] | None
) -> None:
    with connect(gateway, sent) as connection:
        assert answer_to(connection) == answer


@pytest.mark.parametrize("body", [b"", b'{"model":', b"x" * 1000], ids=["nothing", "little", "more"])
@pytest.mark.parametrize("length", [100_000, None], ids=["length", "chunked"])
async def test_a_body_that_is_never_finished_is_a_408(
    gateway: GatewayUnderTest, caplog: pytest.LogCaptureFixture, body: bytes, length: int | None
) -> None:
    caplog.set_level("INFO", "a2a_gateway.server.request_log")
    framed = body if length is not None or not body else b"%x\r\n%b" % (2 * len(body), body)
    with connect(gateway, head(gateway.key, length=length), framed) as connection:
        assert answer_to(connection) == (408, "request_timeout")
    logged = (await until(lambda: [record.msg for record in caplog.records if isinstance(record.msg, dict)]))[-1]
    assert (logged["status"], logged.get("client_left")) == (408, None)


async def test_a_stranger_who_sends_a_body_is_refused_at_once_and_hung_up_on(gateway: GatewayUnderTest) -> None:
    with connect(gateway, head("sk-wrong", length=LIMIT_BYTES), b"x" * 1000) as connection:
        assert answer_to(connection) == (401, "invalid_api_key")


async def test_a_run_takes_longer_than_a_client_may(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(connect(gateway, request(gateway.key, "Wait.", step, stream=stream)))
            for step in [Step(content="Finally", gate=Gate("long"))]
            for stream in (False, True)
        ]
        await llm.wait_until(lambda traffic: traffic.in_flight == 2)
        for _ in range(2):
            with connect(gateway, b"GET / HT") as slow:
                assert answer_to(slow) == (408, "request_timeout")
        llm.open_gate("long")
        for run in runs:
            received = b""
            while b"Finally" not in received:
                data = run.recv(65_536)
                assert data, received
                received += data


async def test_where_all_connections_are_in_use_the_one_that_waits_makes_room(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST - 1):
            stack.enter_context(connect(gateway, request(gateway.key, "Hang.", Step(hang=True))))
        await llm.wait_until(lambda traffic: traffic.in_flight == MOST - 1)
        waiting = stack.enter_context(connect(gateway))
        with connect(gateway, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as new:
            assert new.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
        assert answer_to(waiting) is None

        stack.enter_context(connect(gateway, request(gateway.key, "Hang.", Step(hang=True))))
        await llm.wait_until(lambda traffic: traffic.in_flight == MOST)
        with connect(gateway, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as refused:
            assert answer_to(refused) == (429, "capacity_exceeded")
    await llm.wait_until(lambda traffic: traffic.in_flight == 0)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_unfinished_bodies_of_one_key_leave_room_for_others(gateway: GatewayUnderTest, framing: str) -> None:
    _, other = gateway.create_key(f"other-{framing}")
    text = "x" * 300_000
    length = LIMIT_BYTES if framing == "length" else None
    unfinished = head(gateway.key, length=length) + (b"" if length else b"%x\r\n" % LIMIT_BYTES) + b"x" * 400_000
    with connect(gateway, unfinished), connect(gateway, unfinished) as second:
        assert answer_to(second) == (429, "capacity_exceeded")
        with connect(gateway, request(gateway.key, "Small.", Step(content="yes"))) as small:
            assert small.recv(65_536).startswith(b"HTTP/1.1 200 ")
        with connect(gateway, request(other, text, Step(content="yes"))) as large:
            assert large.recv(65_536).startswith(b"HTTP/1.1 200 ")
    for _ in range(3):  # what has ended has given back what it took
        with connect(gateway, request(gateway.key, text, Step(content="yes"))) as large:
            assert large.recv(65_536).startswith(b"HTTP/1.1 200 ")
