"""Sanitise LLM output: replace lone surrogates with U+FFFD and reject JSON nested too deeply.

Models write lone surrogates as escapes, and providers produce them where they split a stream. UTF-8 cannot encode them, so they
would end a run that has been paid for. Tool arguments that are nested deeper than Python can parse would end it as well. The SDK
reports an error to the LLM only for arguments that are not JSON, so those are replaced by a text that is not JSON. Knows
LiteLLM's chunks and the SDK's message.
"""

import re
from typing import Any, Final

from litellm.types.utils import ModelResponseStream
from openhands.sdk.llm import Message, TextContent

from delegate_tool.protocol.text import well_formed

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(u[dD][89a-fA-F][\da-fA-F]{2})|.)", re.DOTALL
)
"""An escape of JSON; the group matches a lone surrogate."""
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_MAX_DEPTH: Final = 100


def sanitize_chunk(chunk: Any) -> None:
    """Sanitise one item of a stream, of either endpoint, in place. LiteLLM fails at lone surrogates as well."""
    if not isinstance(chunk, ModelResponseStream):
        _sanitize(chunk, "delta")
        return
    for choice in chunk.choices:
        _sanitize(choice.delta, "content")
        _sanitize(choice.delta, "reasoning_content")
        for call in choice.delta.tool_calls or ():
            _sanitize(getattr(call, "function", None), "name")
            _sanitize(getattr(call, "function", None), "arguments")


def sanitize_message(message: Message) -> None:
    """Sanitise a whole answer in place, including the escapes in the arguments of its tool calls."""
    for part in message.content:
        if isinstance(part, TextContent):
            _sanitize(part, "text")
    _sanitize(message, "reasoning_content")
    for call in message.tool_calls or ():
        _sanitize(call, "name")
        call.arguments = sanitize_json(call.arguments)
        if _is_too_deep(call.arguments):
            call.arguments = f"nested more than {_MAX_DEPTH} deep"


def sanitize_json(text: str) -> str:
    """Replace lone surrogates in JSON text, raw or escaped; the text need not be valid JSON."""
    text = well_formed(text)
    return _ESCAPE.sub(lambda escape: r"\ufffd" if escape[1] else escape[0], text) if r"\u" in text else text


def _is_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return False
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest > _MAX_DEPTH


def _sanitize(owner: Any, name: str) -> None:
    text = getattr(owner, name, None)
    if isinstance(text, str) and not text.isascii() and (sanitized := well_formed(text)) != text:
        setattr(owner, name, sanitized)
