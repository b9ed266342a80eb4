"""The shapes of chat completions, as types for the OpenAPI document; see `wire.schemas`.

The types of the `openai` package do not fit: they lack the cost and the delegation in `usage`, and to import them takes a second.
"""

from typing import Any, Final, Literal, NotRequired, TypedDict

from pydantic import ConfigDict, with_config

from a2a_gateway.wire.chat.body import ChatBody
from a2a_gateway.wire.schemas import UsageObject


@with_config(ConfigDict(use_attribute_docstrings=True))
class CompletionMessageObject(TypedDict):
    """The agent's answer."""

    role: Literal["assistant"]
    content: str
    refusal: None
    reasoning_content: NotRequired[str]
    """The LLM's reasoning, or narration that was asked for as reasoning."""


class CompletionChoiceObject(TypedDict):
    """The one answer that an agent gives."""

    index: Literal[0]
    message: CompletionMessageObject
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter"]


class CompletionObject(TypedDict):
    """OpenAI's chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[CompletionChoiceObject]
    usage: UsageObject


_DEFINITIONS: Final = "#/$defs/"


def request_schema() -> dict[str, Any]:
    """Return the JSON schema of a request, without references, so that it can stand anywhere in a document."""
    schema = ChatBody.model_json_schema()
    definitions = schema.pop("$defs")

    def inline(node: Any) -> Any:
        match node:
            case {"$ref": str(reference), **beside}:
                return inline({**definitions[reference.removeprefix(_DEFINITIONS)], **beside})
            case dict():
                return {name: inline(value) for name, value in node.items()}
            case list():
                return [inline(value) for value in node]
            case _:
                return node

    inlined: dict[str, Any] = inline(schema)
    return inlined
