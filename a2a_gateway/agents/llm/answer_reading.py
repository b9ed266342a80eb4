"""Parse the answers to an agent's LLM calls before LiteLLM does: streams event by event, whole answers at once.

All of LiteLLM's HTTP clients are httpx's, so the answers of every provider pass through `send`, over every transport. `send` is
replaced while agents run in this process; outside of an agent's LLM call the replacement changes nothing. In `providers`,
`stream_events` explains why answers are parsed here, `formats` what is repaired in them, and `refusals` how much of an error is
read. `truncated_streams` decides what a damaged or truncated stream means.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Final

import httpx

from a2a_gateway.agents.llm.call import LLMCall, current_call
from a2a_gateway.agents.llm.providers.call_ids import CallIds
from a2a_gateway.agents.llm.providers.formats import format_of
from a2a_gateway.agents.llm.providers.refusals import (
    MAX_REFUSAL_BYTES,
    may_be_refusal,
    read_refusal,
    read_refusal_blocking,
    refused_status,
)
from a2a_gateway.agents.llm.providers.stream_events import AnswerDamaged
from a2a_gateway.agents.llm.providers.stream_reading import StreamReading
from a2a_gateway.agents.sdk_patches.patching import Patch

_BINARY_STREAM: Final = "application/vnd.amazon.eventstream"
"""Bedrock's format, which has frames and checksums of its own."""
_TRANSPORT_HEADERS: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _CheckedResponse(httpx.Response):
    """A streamed answer. Its lines, and its bytes, are the events that `StreamReading` returns."""

    def __init__(self, response: httpx.Response, pieces: AsyncIterator[bytes], reading: StreamReading) -> None:
        body = _CheckedBody(response, pieces, reading)
        super().__init__(
            response.status_code,
            headers=_headers(response),
            stream=body,
            request=response.request,
            extensions=response.extensions,
        )
        self._body = body

    def aiter_lines(self) -> AsyncIterator[str]:
        return self._body.lines()


class _CheckedBody(httpx.AsyncByteStream):
    """The body of a checked response."""

    def __init__(self, response: httpx.Response, pieces: AsyncIterator[bytes], reading: StreamReading) -> None:
        self._response = response
        self._pieces = pieces
        self._reading = reading

    async def lines(self) -> AsyncIterator[str]:
        async for data in self._pieces:
            for line in self._reading.feed(data):
                yield line
            # Bytes without an event (keep-alive comments) may arrive faster than they are read, so that no read ever waits.
            # Without this, every other run of the process would wait.
            await asyncio.sleep(0)
        for line in self._reading.finish():
            yield line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for line in self.lines():
            yield f"{line}\n\n".encode()

    async def aclose(self) -> None:
        await self._response.aclose()


def _read_first(send: Callable[..., Awaitable[httpx.Response]]) -> Callable[..., Awaitable[httpx.Response]]:
    @wraps(send)
    async def send_and_read(
        self: httpx.AsyncClient, request: httpx.Request, *, stream: bool = False, **options: Any
    ) -> httpx.Response:
        call = current_call.get()
        if call is None:
            return await send(self, request, stream=stream, **options)
        # Always streamed, because only the beginning of an error is read.
        response = await send(self, request, stream=True, **options)
        if response.is_error:
            return _with_content(response, await read_refusal(response))
        try:
            if stream:
                return await _read_stream(response, call)
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return _read_whole(response, call)

    return send_and_read


def _read_first_blocking(send: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    @wraps(send)
    def send_and_read(self: httpx.Client, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        call = current_call.get()
        if call is None or stream:  # the side calls of tools are never streamed
            return send(self, request, stream=stream, **options)
        response = send(self, request, stream=True, **options)
        if response.is_error:
            return _with_content(response, read_refusal_blocking(response))
        try:
            response.read()
        finally:
            response.close()
        return _read_whole(response, call)

    return send_and_read


async def _read_stream(response: httpx.Response, call: LLMCall) -> httpx.Response:
    """Return a response that is checked while it is read; for an error with status 200, one with the right status."""
    content_type = response.headers.get("content-type", "")
    if not response.is_success or content_type.startswith(_BINARY_STREAM):
        return response
    pieces = response.aiter_bytes()
    if content_type.startswith("application/json"):
        beginning = b""
        async for piece in pieces:
            beginning += piece
            if not may_be_refusal(beginning):
                break
        if (status := refused_status(beginning)) is not None:
            await response.aclose()
            return _with_content(response, beginning, status)
        pieces = _resume(beginning, pieces)
    call.attempt.reading = StreamReading(CallIds(call.taken_call_ids))
    return _CheckedResponse(response, pieces, call.attempt.reading)


async def _resume(beginning: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield beginning
    async for piece in rest:
        yield piece


def _read_whole(response: httpx.Response, call: LLMCall) -> httpx.Response:
    """Return a repaired answer; for an error with status 200, a response with the right status.

    An answer whose format is unknown, or that cannot be repaired, is returned unchanged.
    """
    if not response.is_success:
        return response
    if (status := refused_status(response.content)) is not None:
        return _with_content(response, response.content[:MAX_REFUSAL_BYTES], status)
    try:
        answer = json.loads(response.content, strict=False)
        make = format_of(answer) if isinstance(answer, dict) else None
        if make is None:
            return response
        make(CallIds(call.taken_call_ids)).repair(answer)
    except (ValueError, RecursionError, AnswerDamaged):
        return response
    return _with_content(response, json.dumps(answer).encode())


def _with_content(response: httpx.Response, content: bytes, status: int | None = None) -> httpx.Response:
    """Replace the body of a response that has been read and closed, and its status if one is given."""
    replaced = httpx.Response(
        response.status_code if status is None else status,
        headers=_headers(response),
        content=content,
        request=response.request,
        extensions=response.extensions,
    )
    replaced.elapsed = response.elapsed
    return replaced


def _headers(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    """Return the headers without those about transport: the body has been decoded, and its length may have changed."""
    return [(name, value) for name, value in response.headers.raw if name.decode("latin-1").lower() not in _TRANSPORT_HEADERS]


ANSWER_READING: Final = (
    Patch("httpx:AsyncClient", "send", _read_first),
    Patch("httpx:Client", "send", _read_first_blocking),
)
