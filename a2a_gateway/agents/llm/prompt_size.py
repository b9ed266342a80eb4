"""Measure the prompt that an LLM is sent. Knows the SDK's messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from openhands.sdk.llm import ImageContent, Message, TextContent, ThinkingBlock
from openhands.sdk.tool import ToolDefinition

from a2a_gateway.agents.llm.tool_schemas import ToolSchemas
from a2a_gateway.runs.prompt_size import PromptSize, count_utf8_bytes

_USUAL_TOKENS_PER_IMAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Prompt(PromptSize):
    """The size of what is sent to an LLM."""

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[ToolDefinition[Any, Any]], schemas: ToolSchemas) -> Self:
        """Measure the messages and tools that the SDK is going to send."""
        images = sum(len(part.image_urls) for message in messages for part in message.content if isinstance(part, ImageContent))
        utf8_bytes = sum(map(count_utf8_bytes, _texts(messages))) + sum(map(schemas.utf8_bytes, tools))
        return cls(utf8_bytes, len(messages) + len(tools), images)

    @property
    def image_tokens(self) -> int:
        """The number of tokens that providers usually count for the images."""
        return self.images * _USUAL_TOKENS_PER_IMAGE


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
    """Yield the earlier reasoning in a message, which is sent again to some providers."""
    for block in message.thinking_blocks:
        yield block.thinking if isinstance(block, ThinkingBlock) else block.data
    if not message.thinking_blocks:
        yield message.reasoning_content or ""
    if (item := message.responses_reasoning_item) is not None:
        yield from (*item.summary, *(item.content or ()), item.encrypted_content or "")
