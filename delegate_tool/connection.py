"""The client and event loop for a tool's HTTP calls: those of the gateway, or the tool's own.

The SDK has only synchronous executors, which it runs in threads. A synchronous OpenAI client could not be interrupted, so the
tool calls an asynchronous one on an event loop. This module imports openai, not the SDK.
"""

import asyncio
import threading
from contextlib import ExitStack
from typing import Protocol

from anyio.from_thread import start_blocking_portal
from openai import AsyncOpenAI

from delegate_tool.binding import BoundClient
from delegate_tool.client import Endpoint


class ToolConnection(Protocol):
    """A client, and the only loop on which it may be used. Both methods may be called from any thread but the loop's own."""

    def open(self) -> tuple[AsyncOpenAI, asyncio.AbstractEventLoop]:
        """Return client and loop; they stay the same until `close`."""
        ...

    def close(self) -> None:
        """Release what `open` acquired; `open` may be called again."""
        ...


class GatewayConnection:
    """The gateway's connection, which outlives the tool."""

    def __init__(self, bound: BoundClient) -> None:
        self._bound = bound

    def open(self) -> tuple[AsyncOpenAI, asyncio.AbstractEventLoop]:
        return self._bound.client, self._bound.loop

    def close(self) -> None:
        """Do nothing: the gateway closes its own connection."""


class OwnConnection:
    """A connection with its own loop in its own thread, which starts at the first `open`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._opened: tuple[AsyncOpenAI, asyncio.AbstractEventLoop] | None = None
        self._resources = ExitStack()

    def open(self) -> tuple[AsyncOpenAI, asyncio.AbstractEventLoop]:
        with self._lock:
            if self._opened is None:
                portal = self._resources.enter_context(start_blocking_portal("asyncio", name="delegate-tool"))
                client = self._endpoint.connect()
                self._resources.callback(portal.call, client.close)
                self._opened = client, portal.call(_running_loop)
            return self._opened

    def close(self) -> None:
        with self._lock:
            self._opened = None
            self._resources.close()


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
