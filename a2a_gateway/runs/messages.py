"""The conversation as a caller sends it: messages, their parts, and the requested form of the answer. Plain data, picklable."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by URL: `https://…` or `data:image/…;base64,…`."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


type Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the *client's* assistant made earlier; `arguments` is the JSON text as it was generated."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """A system or developer message."""

    parts: tuple[TextPart, ...]


@dataclass(frozen=True, slots=True)
class UserMessage:
    parts: tuple[Part, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    parts: tuple[TextPart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The result of the tool call with id `tool_call_id`, which an earlier assistant message made."""

    tool_call_id: str
    parts: tuple[Part, ...]


type Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the agent's LLM is to generate; None leaves the profile's value."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """A form that the final answer must have.

    Attributes:
        kind: `json_object` (any JSON object) or `json_schema`.
        schema: the JSON Schema for `json_schema`, else None.
    """

    kind: Literal["json_object", "json_schema"]
    name: str = "answer"
    schema: Mapping[str, object] | None = None


def text_of(parts: tuple[Part, ...]) -> str:
    """Join the text parts; images contribute nothing."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def task_of(messages: tuple[Message, ...]) -> str:
    """Return the text of the last user message, which is the task of this request; empty without a user message."""
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            return text_of(message.parts)
    return ""
