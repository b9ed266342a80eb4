"""How agents reach a gateway that another application serves: in its process, without a socket.

Such a gateway does not know its URL. The application decides about port, prefix, root path and a proxy in front, and the `Host`
header of a request could name any machine, to which a run's token must not be sent. In the process no URL is needed.
"""

import asyncio
from contextvars import Context
from typing import Final

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

IN_PROCESS_URL: Final = "http://in-process.invalid/v1"
"""OpenAI base URL of the gateway's own application. No server can have this name (RFC 2606)."""


def in_process_transport(app: ASGIApp) -> httpx.AsyncBaseTransport:
    """Make the transport of a client that calls an application directly. A response arrives once it is complete."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        # A new context: a child must not inherit the context variables of its parent's tool, such as those of tracers.
        await asyncio.create_task(app(scope, receive, send), context=Context())  # type: ignore[arg-type]  # an awaitable

    # No address of the network: the log must not name one, and there is no connection whose sender could be identified.
    return httpx.ASGITransport(call, raise_app_exceptions=False, client=("in-process", 0))
