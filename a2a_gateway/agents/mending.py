"""Mends what an LLM wrote, before anybody reads it: a half of a surrogate pair becomes U+FFFD.

Models let one slip in an escape, and providers where they cut a stream. No UTF-8 can carry it, so it would end a run that has
been paid for. Above it stand `llm` and `llm_call`; it knows LiteLLM's chunks and the SDK's message.
"""

import re
from typing import Any, Final

from litellm.types.utils import ModelResponseStream
from openhands.sdk.llm import Message, TextContent

from delegate_tool.wellformed import well_formed

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(u[dD][89a-fA-F][\da-fA-F]{2})|.)", re.DOTALL
)
"""An escape of JSON; the group is the half of a pair that stands alone."""


def mend_chunk(chunk: Any) -> None:
    """Mend one item of a stream, of either endpoint, in place: LiteLLM, too, breaks at what cannot be written."""
    if not isinstance(chunk, ModelResponseStream):
        _mend(chunk, "delta")
        return
    for choice in chunk.choices:
        _mend(choice.delta, "content")
        _mend(choice.delta, "reasoning_content")
        for call in choice.delta.tool_calls or ():
            _mend(getattr(call, "function", None), "name")
            _mend(getattr(call, "function", None), "arguments")


def mend_message(message: Message) -> None:
    """Mend a whole answer in place, also where its tool calls escape what cannot be written."""
    for part in message.content:
        if isinstance(part, TextContent):
            _mend(part, "text")
    _mend(message, "reasoning_content")
    for call in message.tool_calls or ():
        _mend(call, "name")
        call.arguments = mend_json(call.arguments)


def mend_json(text: str) -> str:
    """Mend JSON text, be it well formed otherwise or not."""
    text = well_formed(text)
    return _ESCAPE.sub(lambda escape: r"\ufffd" if escape[1] else escape[0], text) if r"\u" in text else text


def _mend(owner: Any, name: str) -> None:
    text = getattr(owner, name, None)
    if isinstance(text, str) and not text.isascii() and (mended := well_formed(text)) != text:
        setattr(owner, name, mended)
