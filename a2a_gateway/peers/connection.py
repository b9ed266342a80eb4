"""HTTP to a peer, which is not trusted: its answers are bounded in size, not unpacked, and lead nowhere else."""

from collections.abc import AsyncIterator
from typing import Final, cast

import httpx
from openai import AsyncOpenAI

from delegate_tool.http_client import proxying_client

_MAX_STREAM_BYTES: Final = 256 * 1024 * 1024
"""Of what is read as it comes; how much of it is kept, `delegate_tool.sse` and `delegate_tool.reply` bound."""
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of what is no stream: it is read whole, and its objects take many times as much room."""


class Unreadable(ValueError):
    """A peer's answer is not what was asked for, or is too large."""


def connect(base_url: str) -> AsyncOpenAI:
    """Make a client for a peer; the caller closes it. It repeats nothing by itself, and each request names its credential."""
    return AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0, http_client=bounded_client())


def bounded_client() -> httpx.AsyncClient:
    """Make an HTTP client for what is not trusted; the caller closes it."""
    return proxying_client(
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,  # a peer could name a host that only this machine can reach
        event_hooks={"response": [_bound]},
    )


async def _bound(response: httpx.Response) -> None:
    body = cast("httpx.AsyncByteStream", response.stream)  # it is an asynchronous client's
    most_bytes = _MAX_STREAM_BYTES if _is_stream(response) else _MAX_ANSWER_BYTES
    response.stream = _Bounded(body, packing=response.headers.get("content-encoding", "identity"), most_bytes=most_bytes)


def _is_stream(response: httpx.Response) -> bool:
    """Whether a response is read as it comes; what it says of itself would not do."""
    return response.is_success and response.request.url.path.endswith("/chat/completions")


class _Bounded(httpx.AsyncByteStream):
    """The body of a response, up to a size."""

    def __init__(self, body: httpx.AsyncByteStream, *, packing: str, most_bytes: int) -> None:
        self._body = body
        self._packing = packing
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._packing.lower() != "identity":
            raise Unreadable("its answer is packed, which was not asked for")  # few bytes here could be many unpacked
        answer_bytes = 0
        async for piece in self._body:
            answer_bytes += len(piece)
            if answer_bytes > self._most_bytes:
                raise Unreadable("its answer is larger than any that makes sense")
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()
