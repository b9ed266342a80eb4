"""How large a prompt is: its characters, and the most tokens that they can be, without a tokenizer. Knows the SDK's messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from openhands.sdk.llm import ImageContent, Message, TextContent
from openhands.sdk.tool import ToolDefinition

from a2a_gateway.agents.tool_schemas import ToolSchemas

_BYTES_PER_TOKEN: Final = 3
"""English and code have four or more, dense scripts about three: a prompt rarely has more tokens than its bytes by three."""
_TOKENS_PER_MESSAGE: Final = 8
_TOKENS_PER_IMAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to an LLM, measured."""

    chars: int = 0
    utf8_bytes: int = 0
    messages: int = 0
    images: int = 0

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[ToolDefinition[Any, Any]], schemas: ToolSchemas) -> Self:
        """Measure what the SDK is going to send."""
        texts, tool_chars = list(_texts(messages)), sum(map(schemas.chars, tools))
        images = sum(len(part.image_urls) for message in messages for part in message.content if isinstance(part, ImageContent))
        utf8_bytes = sum(map(_utf8_bytes, texts))
        return cls(sum(map(len, texts)) + tool_chars, utf8_bytes + tool_chars, len(messages) + len(tools), images)

    def most_tokens(self) -> int:
        """Estimate the tokens, rather too many than too few."""
        return -(-self.utf8_bytes // _BYTES_PER_TOKEN) + self.messages * _TOKENS_PER_MESSAGE + self.images * _TOKENS_PER_IMAGE


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        for part in message.content:
            if isinstance(part, TextContent):
                yield part.text
        for call in message.tool_calls or ():
            yield call.name
            yield call.arguments


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
