"""How LiteLLM's requests travel: each is sent once, of a refusal only the beginning is read, and a whole answer may be a stream.

LiteLLM sends a POST again when its connection breaks, below the attempts that are counted and booked here. And it reads the whole
body of an error, however large, and applies regular expressions to it again and again, on the event loop: a body of 1 MB stopped
the process for ten seconds (vLLM has sent 114 MB). Both are mended where they happen, for the whole process. An answer in another
form than was asked for is put into that form. Three names of LiteLLM are used; `tests/agents/test_llm_transport.py` fails when a
new version moves one.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn

import httpx
from litellm.litellm_core_utils import secret_redaction
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from a2a_gateway.agents.whole_answers import as_events, error_status

MAX_REFUSAL_BYTES: Final = 8_192
"""Of an error's body. Its reason stands at the beginning; what follows repeats the request."""
_REFUSAL_TIMEOUT_S: Final = 5.0
"""For a body that trickles: its status and its beginning say enough."""
_STREAM: Final = re.compile(rb'"stream"\s*:\s*true')
_MAX_REDACTED_CHARS: Final = 16_384
"""Of an error's text, where the error came in another way than as a status."""


def guard_llm_transport() -> None:
    """Make LiteLLM send each request once and read refusals with a bound, for the whole process. Idempotent."""
    send = LiteLLMAiohttpTransport.handle_async_request
    if getattr(send, "is_guarded", False):
        return
    guarded: Any = _guarded(send)
    guarded.is_guarded = True
    LiteLLMAiohttpTransport.handle_async_request = guarded  # type: ignore[method-assign]
    AsyncHTTPHandler.single_connection_post_request = _raise_again  # type: ignore[method-assign]
    secret_redaction._SECRET_RE = _BoundedPattern(secret_redaction._SECRET_RE)  # type: ignore[misc,assignment]


def _guarded(send: Callable[..., Any]) -> Callable[..., Any]:
    async def handle_async_request(self: LiteLLMAiohttpTransport, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await send(self, request)
        response.request = request
        if response.status_code >= httpx.codes.BAD_REQUEST:
            return _answer(response, response.status_code, await _beginning(response))
        if request.method != "POST" or not response.headers.get("content-type", "").startswith("application/json"):
            return response
        return await _formed(response)

    return handle_async_request


async def _formed(response: httpx.Response) -> httpx.Response:
    """Put an answer in JSON into the form that was asked for; pass on a stream that is only called JSON."""
    pieces = response.aiter_bytes()
    body = b""
    async for piece in pieces:
        body += piece
        if body.strip():
            break
    if not body.lstrip().startswith(b"{"):
        return _answer(response, response.status_code, _Resumed(body, pieces, response))
    body += b"".join([piece async for piece in pieces])
    if (status := error_status(body)) is not None:
        return _answer(response, status, body[:MAX_REFUSAL_BYTES])
    events = as_events(body) if _asks_for_stream(response.request) else None
    if events is None:
        return _answer(response, response.status_code, body)
    return _answer(response, response.status_code, events, {"content-type": "text/event-stream"})


class _Resumed(httpx.AsyncByteStream):
    """A body of which the beginning has been read."""

    def __init__(self, beginning: bytes, rest: AsyncIterator[bytes], response: httpx.Response) -> None:
        self._beginning, self._rest, self._response = beginning, rest, response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._beginning
        async for piece in self._rest:
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


def _answer(
    response: httpx.Response, status: int, body: bytes | _Resumed, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    # The body is decoded, and its length may be another one than was announced.
    replaced = {"content-encoding", "content-length", "transfer-encoding", *(headers or {})}
    kept = [(name, value) for name, value in response.headers.multi_items() if name not in replaced]
    # As a stream, which the client reads and closes: only then it knows how long the answer took.
    stream = httpx.ByteStream(body) if isinstance(body, bytes) else body
    return httpx.Response(status, headers=[*kept, *(headers or {}).items()], stream=stream, request=response.request)


def _asks_for_stream(request: httpx.Request) -> bool:
    try:
        body = request.content
    except httpx.RequestNotRead:
        return False
    # The words may stand in a message; to read each request would take too long.
    return bool(_STREAM.search(body)) and json.loads(body).get("stream") is True


async def _beginning(response: httpx.Response) -> bytes:
    """Read the beginning of a body, as far as it comes, and close the connection if there is more."""
    content = bytearray()
    try:
        # A body that breaks off, cannot be decoded or takes too long is as good as a shorter one.
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(_REFUSAL_TIMEOUT_S):
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) >= MAX_REFUSAL_BYTES:
                        break
    finally:
        await response.aclose()
    return bytes(content[:MAX_REFUSAL_BYTES])


async def _raise_again(*_: object, **__: object) -> NoReturn:
    """Stand in for LiteLLM's second attempt, which it makes while it handles the error of the first."""
    error = sys.exception()
    raise error if error is not None else RuntimeError("a second attempt without a first")


class _BoundedPattern:
    """LiteLLM's pattern for secrets, which takes 3 µs a character and is applied to each error six times."""

    def __init__(self, pattern: "re.Pattern[str] | _BoundedPattern") -> None:
        self._pattern = pattern

    def sub(self, replacement: str, text: str) -> str:
        """Replace secrets in the beginning of a text, and leave out the rest."""
        return self._pattern.sub(replacement, text[:_MAX_REDACTED_CHARS])
