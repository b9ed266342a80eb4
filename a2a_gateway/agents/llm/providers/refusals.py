"""Read a bounded part of an LLM provider's error, and recognise an error that is sent with status 200.

LiteLLM reads the whole body of an error, and applies regular expressions to it again and again on the event loop: a body of 1 MB
stopped the process for ten seconds, and vLLM has sent 114 MB. Some servers report an error with status 200, which LiteLLM treats
as a damaged answer.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpx

MAX_REFUSAL_BYTES: Final = 8_192
"""The part of an error's body that is read. The reason is at the beginning; the rest repeats the request."""
_REFUSAL_TIMEOUT_S: Final = 5.0
"""For a body that arrives slowly: the status and the beginning are enough."""
_ANSWERS: Final = ("choices", "output", "content", "candidates", "message")
"""Fields of answers, in all formats. An object with one of them is not an error."""
_STATUSES: Final = range(400, 600)
_BAD_GATEWAY: Final = 502


async def read_refusal(response: httpx.Response) -> bytes:
    """Read the beginning of an error's body, as far as it arrives in time, and close the response."""
    content = bytearray()
    try:
        # A body that breaks off, cannot be decoded or takes too long is used as far as it was read.
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(_REFUSAL_TIMEOUT_S):
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) >= MAX_REFUSAL_BYTES:
                        break
    finally:
        await response.aclose()
    return bytes(content[:MAX_REFUSAL_BYTES])


def read_refusal_blocking(response: httpx.Response) -> bytes:
    """Read the beginning of an error's body, and close the response. Each read is bounded by the client's own timeout."""
    content = bytearray()
    try:
        with suppress(httpx.HTTPError):
            for piece in response.iter_bytes():
                content += piece
                if len(content) >= MAX_REFUSAL_BYTES:
                    break
    finally:
        response.close()
    return bytes(content[:MAX_REFUSAL_BYTES])


def may_be_refusal(beginning: bytes) -> bool:
    """Return whether an answer that begins like this may be an error, so that more of it has to be read."""
    return len(beginning) < MAX_REFUSAL_BYTES and beginning.lstrip()[:1] in (b"", b"{")


def refused_status(body: bytes) -> int | None:
    """Return the right status of an error that was sent with status 200; None if the body is not an error."""
    if b'"error"' not in body:
        return None
    answer = _object(body)
    error = answer.get("error")
    if not error or any(answer.get(name) for name in _ANSWERS):
        return None
    codes = (error.get("code"), error.get("status")) if isinstance(error, Mapping) else ()
    return next((code for code in codes if isinstance(code, int) and code in _STATUSES), _BAD_GATEWAY)


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
