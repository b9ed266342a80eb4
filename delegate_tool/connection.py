"""Where a tool's HTTP happens: on the gateway's event loop with its shared client, or on a private loop with a client of its own.

The SDK runs executors in threads and has no asynchronous ones; but a synchronous OpenAI client could not be interrupted. Imports
openai, not the SDK.
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
    """A client and the loop on which alone it may be used. Both methods may be called from any thread but the loop's own."""

    def open(self) -> tuple[AsyncOpenAI, asyncio.AbstractEventLoop]:
        """Return client and loop; the same ones until closed."""
        ...

    def close(self) -> None:
        """Release what `open` acquired; opening again is allowed."""
        ...


class GatewayConnection:
    """The gateway's connection, which outlives the tool."""

    def __init__(self, bound: BoundClient) -> None:
        self._bound = bound

    def open(self) -> tuple[AsyncOpenAI, asyncio.AbstractEventLoop]:
        return self._bound.client, self._bound.loop

    def close(self) -> None:
        """Leave it to the gateway."""


class OwnConnection:
    """A connection with its own loop in its own thread, started when first needed."""

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
