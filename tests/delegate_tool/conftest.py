"""Fixtures: the endpoint of a delegation, a real server on a real socket, one per test; and agents that delegate to it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.delegate_tool.delegator import Delegator, Hire
from tests.delegate_tool.remote_endpoint import RemoteEndpoint, endpoint_app


@pytest.fixture
def endpoint() -> Iterator[RemoteEndpoint]:
    endpoint = RemoteEndpoint()
    server = uvicorn.Server(uvicorn.Config(endpoint_app(endpoint), port=0, log_level="critical", timeout_graceful_shutdown=1))
    started = threading.Event()
    original = server.startup

    async def startup(sockets: Any = None) -> None:
        await original(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]  # uvicorn has no other signal that it listens
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(20)
    endpoint.base_url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    yield endpoint
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def unused_tcp_port() -> Iterator[int]:
    """A port on which no process listens, held for the test so that no other process gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def hire(endpoint: RemoteEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hire]:
    """Make delegators, whose environment names the fixture as their endpoint."""
    monkeypatch.setenv("A2A_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("A2A_API_KEY", "key")
    with ExitStack() as closing:

        def make(**params: Any) -> Delegator:
            delegator = Delegator(endpoint, tmp_path, **params)
            closing.callback(delegator.close)
            return delegator

        yield make
