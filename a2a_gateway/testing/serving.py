"""Serve an ASGI application on a port of this machine, inside the running event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

_BACKLOG: Final = 2048
_KEEP_ALIVE_S: Final = 60
"""Longer than clients keep an idle connection, so that no request is sent on a connection that is being closed."""


@asynccontextmanager
async def serve_app(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the context ends; yield the root URL, which accepts connections at once. Port 0 selects a free one."""
    # The kernel queues connections from here on, so clients need not wait for the server to come up.
    with socket.create_server((host, port), backlog=_BACKLOG) as listener:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_keep_alive=_KEEP_ALIVE_S
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            bound_host, bound_port = listener.getsockname()[:2]
            yield f"http://{bound_host}:{bound_port}"
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the process, not to this server.
        yield
