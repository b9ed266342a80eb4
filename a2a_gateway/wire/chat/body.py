"""The shape of an untrusted chat-completions body: types, ranges and known alternatives, as pydantic models.

Fields that have an effect are strict; all others are accepted, and kept as pydantic's extras for `ignored_fields`.
`messages` and `request` check what the parts mean together. A value that does not fit is a `RequestError` with its path.
"""

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, FailFast, Field, Tag, ValidationError

from a2a_gateway.errors import RequestError

_TAG: Final = "="
"""Starts the tags of unions, to distinguish them from field names in the location of an error."""


type _List[T] = Annotated[list[T], FailFast()]
"""A list whose validation stops at the first error: a million errors would cost a million objects."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)


def _one_of(field: str, tags: dict[str, str], default: str) -> Discriminator:
    """Choose among models by a string field. A value that is not an object goes to `default`, whose error states that."""

    def tag(value: object) -> str | None:
        if not isinstance(value, dict):
            return default
        name = value.get(field)
        return tags.get(name) if isinstance(name, str) else None

    return _alternatives(tag, f"must be one of {', '.join(sorted(tags))}", field)


def _alternatives(tag: Callable[[object], str | None], message: str, field: str = "") -> Discriminator:
    return Discriminator(
        tag, custom_error_type="no_alternative", custom_error_message=message, custom_error_context={"field": field}
    )


class TextPartBody(_Body):
    type: Literal["text"]
    text: str


class RefusalPartBody(_Body):
    type: Literal["refusal"]
    refusal: str


class ThinkingPartBody(_Body):
    """Reasoning of an assistant, as some clients send it back. It has no effect: its fields are extras, named as ignored."""

    type: Literal["thinking", "redacted_thinking", "reasoning"]


class ImageUrlBody(_Body):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePartBody(_Body):
    type: Literal["image_url"]
    image_url: ImageUrlBody


class ForeignPartBody(_Body):
    """A part of OpenAI's API that no agent here can read."""

    type: Literal["input_audio", "file"]


type PartBody = Annotated[
    Annotated[TextPartBody, Tag("=text")]
    | Annotated[ThinkingPartBody, Tag("=thinking")]
    | Annotated[RefusalPartBody, Tag("=refusal")]
    | Annotated[ImagePartBody, Tag("=image")]
    | Annotated[ForeignPartBody, Tag("=foreign")],
    _one_of(
        "type",
        {
            "text": "=text",
            "thinking": "=thinking",
            "redacted_thinking": "=thinking",
            "reasoning": "=thinking",
            "refusal": "=refusal",
            "image_url": "=image",
            "input_audio": "=foreign",
            "file": "=foreign",
        },
        "=text",
    ),
]

type ContentBody = Annotated[
    Annotated[str, Tag("=string")] | Annotated[_List[PartBody], Tag("=parts")],
    _alternatives(lambda value: {str: "=string", list: "=parts"}.get(type(value)), "must be a string or a list of parts"),
]


class FunctionCallBody(_Body):
    name: str = Field(min_length=1)
    arguments: str


class ToolCallBody(_Body):
    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCallBody


class SystemBody(_Body):
    role: Literal["system", "developer"]
    content: ContentBody


class UserBody(_Body):
    role: Literal["user"]
    content: ContentBody
    name: str | None = None


class AssistantBody(_Body):
    role: Literal["assistant"]
    content: ContentBody | None = None
    refusal: str | None = None
    tool_calls: _List[ToolCallBody] | None = None
    function_call: FunctionCallBody | None = None
    audio: object = None


class ToolBody(_Body):
    role: Literal["tool"]
    content: ContentBody
    tool_call_id: str = Field(min_length=1)


class FunctionBody(_Body):
    """The result of a `function_call`, as OpenAI's API had it before tools."""

    role: Literal["function"]
    content: ContentBody | None
    name: str = Field(min_length=1)


type MessageBody = Annotated[
    Annotated[SystemBody, Tag("=system")]
    | Annotated[UserBody, Tag("=user")]
    | Annotated[AssistantBody, Tag("=assistant")]
    | Annotated[ToolBody, Tag("=tool")]
    | Annotated[FunctionBody, Tag("=function")],
    _one_of(
        "role",
        {
            "system": "=system",
            "developer": "=system",
            "user": "=user",
            "assistant": "=assistant",
            "tool": "=tool",
            "function": "=function",
        },
        "=user",
    ),
]


class TextFormatBody(_Body):
    type: Literal["text"]


class JsonObjectFormatBody(_Body):
    type: Literal["json_object"]


class JsonSchemaBody(_Body):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, object] = Field(alias="schema")
    strict: bool | None = None  # an answer is always checked


class JsonSchemaFormatBody(_Body):
    type: Literal["json_schema"]
    json_schema: JsonSchemaBody


type FormatBody = Annotated[
    Annotated[TextFormatBody, Tag("=text")]
    | Annotated[JsonObjectFormatBody, Tag("=json_object")]
    | Annotated[JsonSchemaFormatBody, Tag("=json_schema")],
    _one_of("type", {"text": "=text", "json_object": "=json_object", "json_schema": "=json_schema"}, "=text"),
]

type StopBody = Annotated[
    Annotated[str, Tag("=string")] | Annotated[_List[str], Field(max_length=16), Tag("=list")],
    _alternatives(lambda value: {str: "=string", list: "=list"}.get(type(value)), "must be a string or a list of strings"),
]


def _unless(*nothing: object) -> BeforeValidator:
    """Read as null a value that some clients send for a field that they do not use."""
    return BeforeValidator(lambda value: None if any(type(value) is type(each) and value == each for each in nothing) else value)


type _OutputCap = Annotated[Annotated[int, Field(ge=1)] | None, _unless(-1)]
type _Effort = Annotated[
    Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None, _unless("default", "auto", "")
]


class StreamOptionsBody(_Body):
    include_usage: bool | None = None


class ChatBody(_Body):
    """A body of `POST /v1/chat/completions`: the fields that have an effect or are refused."""

    model: str = Field(min_length=1, max_length=200)
    messages: _List[MessageBody] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: _OutputCap = None
    max_completion_tokens: _OutputCap = None
    stop: StopBody | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    reasoning_effort: _Effort = None
    response_format: FormatBody | None = None

    n: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0)
    modalities: _List[str] | None = None
    audio: object = None
    a2a: object = None


_NO_EFFECT: Final[dict[str, tuple[object, ...]]] = {
    "tool_choice": ("auto", "none"),
    "function_call": ("auto", "none"),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "messages.*.content.*.image_url.detail": ("auto",),
}
"""Values of fields that ask for nothing. With few exceptions, null, `[]` and `{}` ask for nothing either."""

_ASKS_WHEN_EMPTY: Final = frozenset({"web_search_options"})
"""Fields that ask for something in OpenAI's API even if they are empty."""

_UNUSED: Final[dict[type[BaseModel], str]] = {UserBody: "name", ImageUrlBody: "detail"}
"""Fields whose shape is checked, and which the OpenHands SDK cannot pass on."""


def read_chat_body(value: object) -> ChatBody:
    """Check a decoded JSON value against the shape.

    Raises:
        RequestError: it does not fit; `param` is the path of the first error.
    """
    try:
        return ChatBody.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        context = first.get("ctx", {})
        items = [str(item) for item in first["loc"] if not str(item).startswith(_TAG)]
        path = ".".join([*items, *filter(None, [str(context.get("field", ""))])])
        raise RequestError(f"{path}: {_reason(first['type'], first['msg'])}.", param=path) from None


def _reason(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is required"
        case "model_type" | "model_attributes_type":
            return "must be an object"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case _:
            return re.sub(r"^(Input|List|String) should", "must", message)


def ignored_fields(body: ChatBody) -> tuple[str, ...]:
    """Return the sorted names of the fields that ask for something and have no effect.

    `messages.*.name` stands for the names of all messages.
    """
    names = set(_extras(body, ""))
    if not body.stream and body.stream_options is not None and body.stream_options.include_usage:
        names.add("stream_options.include_usage")
    return tuple(sorted(names))


def _extras(node: object, path: str) -> Iterator[str]:
    match node:
        case BaseModel():
            unused = {name: getattr(node, name) for kind, name in _UNUSED.items() if isinstance(node, kind)}
            for name, value in {**(node.model_extra or {}), **unused}.items():
                empty = value in ([], {}) and path + name not in _ASKS_WHEN_EMPTY
                if value is not None and not empty and value not in _NO_EFFECT.get(path + name, ()):
                    yield path + name
            for name in type(node).model_fields:
                yield from _extras(getattr(node, name), f"{path}{name}.")
        case list():
            for item in node:
                yield from _extras(item, f"{path}*.")
        case _:
            pass
