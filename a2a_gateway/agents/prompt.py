"""How large a prompt is: its bytes, and the most tokens that they can be, without a tokenizer. Knows the SDK's messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from openhands.sdk.llm import ImageContent, Message, TextContent, ThinkingBlock
from openhands.sdk.tool import ToolDefinition

from a2a_gateway.agents.tool_schemas import ToolSchemas

_BYTES_PER_TOKEN: Final = 3
"""English and code have four or more, dense scripts about three: a prompt rarely has more tokens than its bytes by three."""
_TOKENS_PER_MESSAGE: Final = 8
_TOKENS_PER_IMAGE: Final = 2_000
_USUAL_TOKENS_PER_IMAGE: Final = 1_000
_TOKENS_PER_CALL: Final = 100
"""For what is added to the messages: a note of the budget, the provider's own mark-up."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to an LLM, measured."""

    utf8_bytes: int = 0
    messages: int = 0
    images: int = 0

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[ToolDefinition[Any, Any]], schemas: ToolSchemas) -> Self:
        """Measure what the SDK is going to send."""
        images = sum(len(part.image_urls) for message in messages for part in message.content if isinstance(part, ImageContent))
        utf8_bytes = sum(map(count_utf8_bytes, _texts(messages))) + sum(map(schemas.utf8_bytes, tools))
        return cls(utf8_bytes, len(messages) + len(tools), images)

    @property
    def image_tokens(self) -> int:
        """The tokens that providers usually count for the images."""
        return self.images * _USUAL_TOKENS_PER_IMAGE

    def most_tokens(self) -> int:
        """Estimate the tokens, rather too many than too few."""
        around = self.messages * _TOKENS_PER_MESSAGE + self.images * _TOKENS_PER_IMAGE + _TOKENS_PER_CALL
        return -(-self.utf8_bytes // _BYTES_PER_TOKEN) + around


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        for part in message.content:
            if isinstance(part, TextContent):
                yield part.text
        for call in message.tool_calls or ():
            yield call.name
            yield call.arguments
        yield from _reasoning(message)


def _reasoning(message: Message) -> Iterator[str]:
    """What the LLM thought before, which some providers are sent again."""
    for block in message.thinking_blocks:
        yield block.thinking if isinstance(block, ThinkingBlock) else block.data
    if not message.thinking_blocks:
        yield message.reasoning_content or ""
    if (item := message.responses_reasoning_item) is not None:
        yield from (*item.summary, *(item.content or ()), item.encrypted_content or "")


def count_utf8_bytes(text: str) -> int:
    """Tell how long a text is in UTF-8; what cannot be encoded counts as if it could."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
