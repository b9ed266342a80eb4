"""Read what a provider answers to an agent's LLM call, before LiteLLM reads it: streams event by event, whole answers at once.

LiteLLM's HTTP clients are all httpx's, so their `send` is where the answers of every provider come in. It is replaced for the
whole process, and does nothing outside of an agent's LLM call. `stream_events` says why the answers are read here, and
`provider_formats` what is repaired in them; `stream_end` decides what a damaged or a cut stream means.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Final

import httpx

from a2a_gateway.agents.call_ids import CallIds
from a2a_gateway.agents.llm_call import current_call
from a2a_gateway.agents.provider_formats import format_of
from a2a_gateway.agents.stream_events import AnswerDamaged
from a2a_gateway.agents.stream_reading import StreamReading
from a2a_gateway.errors import ConfigurationError

_BINARY_STREAM: Final = "application/vnd.amazon.eventstream"
"""Bedrock's: framed and with checksums."""
_TRANSPORT_HEADERS: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def read_answers_first() -> None:
    """Read the answers of providers before LiteLLM does, in the whole process. Idempotent.

    Raises:
        ConfigurationError: the installed httpx lacks a method that is to be replaced.
    """
    if not (hasattr(httpx.AsyncClient, "send") and hasattr(httpx.Client, "send")):
        raise ConfigurationError(
            f"The answers of LLMs cannot be checked, because httpx {httpx.__version__} has no `send`. "
            "Install the version that constraints.txt names."
        )
    if not getattr(httpx.AsyncClient.send, "reads_answers", False):
        httpx.AsyncClient.send = _read_first(httpx.AsyncClient.send)  # type: ignore[assignment, method-assign]
        httpx.Client.send = _read_first_blocking(httpx.Client.send)  # type: ignore[method-assign]


class _CheckedResponse(httpx.Response):
    """A streamed answer. Its lines, and its bytes, are the events that `StreamReading` let pass."""

    def __init__(self, response: httpx.Response, reading: StreamReading) -> None:
        body = _CheckedBody(response, reading)
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

    def __init__(self, response: httpx.Response, reading: StreamReading) -> None:
        self._response = response
        self._reading = reading

    async def lines(self) -> AsyncIterator[str]:
        async for data in self._response.aiter_bytes():
            for line in self._reading.feed(data):
                yield line
            # Bytes may come without an event in them (comments that keep alive), and faster than they are read: each read then
            # returns at once, and every other run of the process would wait.
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
        response = await send(self, request, stream=stream, **options)
        call = current_call.get()
        if call is None or not response.is_success:
            return response
        if not stream:
            return _repair_whole(response, CallIds(call.taken_call_ids))
        if response.headers.get("content-type", "").startswith(_BINARY_STREAM):
            return response
        call.attempt.reading = StreamReading(CallIds(call.taken_call_ids))
        return _CheckedResponse(response, call.attempt.reading)

    send_and_read.reads_answers = True  # type: ignore[attr-defined]  # marks what has been replaced
    return send_and_read


def _read_first_blocking(send: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    @wraps(send)
    def send_and_read(self: httpx.Client, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        response = send(self, request, stream=stream, **options)
        call = current_call.get()
        if call is None or stream or not response.is_success:  # side calls, which tools make, are never streamed
            return response
        return _repair_whole(response, CallIds(call.taken_call_ids))

    return send_and_read


def _repair_whole(response: httpx.Response, ids: CallIds) -> httpx.Response:
    """Repair a whole answer. One of an unknown format, or beyond repair, is passed on unchanged."""
    try:
        answer = json.loads(response.content, strict=False)
        make = format_of(answer) if isinstance(answer, dict) else None
        if make is None:
            return response
        make(ids).repair(answer)
    except (ValueError, RecursionError, AnswerDamaged):
        return response
    content = json.dumps(answer).encode()
    repaired = httpx.Response(
        response.status_code,
        headers=_headers(response),
        content=content,
        request=response.request,
        extensions=response.extensions,
    )
    repaired.elapsed = response.elapsed
    return repaired


def _headers(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in response.headers.raw if name.decode("latin-1").lower() not in _TRANSPORT_HEADERS]
