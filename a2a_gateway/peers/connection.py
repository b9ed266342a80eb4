"""HTTP clients for peers, which are not trusted: responses are bounded in size, not decompressed, and not redirected."""

from collections.abc import AsyncIterator
from typing import Final, cast

import httpx
from openai import AsyncOpenAI

from delegate_tool.http.client import proxying_client

_MAX_STREAM_BYTES: Final = 256 * 1024 * 1024
"""Bound of a streamed response. `delegate_tool.remote.sse` and `delegate_tool.remote.reply` bound how much of it is kept."""
_MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
"""Bound of any other response. It is read whole, and the parsed objects take many times as much memory."""


class Unreadable(ValueError):
    """A peer's response has the wrong form, or is too large."""


def connect(base_url: str) -> AsyncOpenAI:
    """Make a client for a peer; the caller closes it. It never retries, and each request must bring its credential."""
    return AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0, http_client=bounded_client())


def bounded_client() -> httpx.AsyncClient:
    """Make an HTTP client for servers that are not trusted; the caller closes it."""
    return proxying_client(
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,  # a peer could name a host that only this machine can reach
        event_hooks={"response": [_bound]},
    )


async def _bound(response: httpx.Response) -> None:
    body = cast("httpx.AsyncByteStream", response.stream)  # the client is asynchronous
    max_bytes = _MAX_STREAM_BYTES if _is_stream(response) else _MAX_RESPONSE_BYTES
    response.stream = _BoundedBody(body, encoding=response.headers.get("content-encoding", "identity"), max_bytes=max_bytes)


def _is_stream(response: httpx.Response) -> bool:
    """Return whether a response is read as a stream. Its own headers are not trusted for that."""
    return response.is_success and response.request.url.path.endswith("/chat/completions")


class _BoundedBody(httpx.AsyncByteStream):
    """The body of a response, up to a size."""

    def __init__(self, body: httpx.AsyncByteStream, *, encoding: str, max_bytes: int) -> None:
        self._body = body
        self._encoding = encoding
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._encoding.lower() != "identity":
            raise Unreadable("its response is compressed, although that was not requested")  # a few bytes could become very many
        received_bytes = 0
        async for piece in self._body:
            received_bytes += len(piece)
            if received_bytes > self._max_bytes:
                raise Unreadable(f"its response is larger than {self._max_bytes // 1024**2} MiB")
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()
