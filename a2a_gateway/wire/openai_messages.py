"""Messages of a body to turns of a conversation: roles, parts, and that each tool call has exactly one result.

Decides what the shape alone cannot: which parts a role may hold, what is empty, and the order. Every turn that comes out says
something: a user turn has a part that is not blank; a system or assistant message that says nothing is left out (clients keep one
after an answer that was stopped, and providers refuse it), as is blank text beside other parts. Only a tool result may be empty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from a2a_gateway.errors import RequestError, UnsupportedError
from a2a_gateway.runs.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from a2a_gateway.wire.image_url import check_image_url
from a2a_gateway.wire.openai_body import (
    AssistantBody,
    ContentBody,
    ForeignPartBody,
    FunctionBody,
    ImagePartBody,
    MessageBody,
    PartBody,
    RefusalPartBody,
    SystemBody,
    TextPartBody,
    ToolBody,
    UserBody,
)


def parse_messages(bodies: Sequence[MessageBody]) -> tuple[Message, ...]:
    """Turn a body's messages into turns, in order. System messages aside, the last one is a user's or a tool's.

    Raises:
        RequestError: a message is empty, holds what its role cannot, or stands where it cannot.
    """
    pairing = _Pairing()
    turns = [(index, message) for index, body in enumerate(bodies) for message in _parse(body, index, pairing)]
    pairing.require_results()
    if not any(isinstance(message, UserMessage) for _, message in turns):
        raise RequestError("messages: at least one must come from the user, it is the agent's task.", param="messages")
    index, last = next(turn for turn in reversed(turns) if not isinstance(turn[1], SystemMessage))
    if isinstance(last, AssistantMessage):
        param = f"messages.{index}.role"
        raise RequestError(
            f"{param}: the last message must come from the user or a tool; an agent cannot continue a turn of its own.",
            param=param,
        )
    return tuple(message for _, message in turns)


def _parse(body: MessageBody, index: int, pairing: "_Pairing") -> Iterator[Message]:
    path = f"messages.{index}"
    if not isinstance(body, ToolBody | FunctionBody):
        pairing.require_results()
    match body:
        case SystemBody():
            if texts := _texts(body.content, path):
                yield SystemMessage(texts)
        case UserBody():
            if not (parts := tuple(_parts(body.content, path))):
                raise RequestError(f"{path}.content: must not be empty.", param=f"{path}.content")
            yield UserMessage(parts, body.name)
        case AssistantBody():
            texts, calls = _assistant_texts(body, path), _calls(body, index)
            pairing.open(calls, path)
            if texts or calls:
                yield AssistantMessage(texts, calls)
        case ToolBody():
            pairing.close(body.tool_call_id, f"{path}.tool_call_id")
            yield ToolMessage(body.tool_call_id, tuple(_parts(body.content, path)))
        case FunctionBody():
            call_id = pairing.close_function(body.name, f"{path}.name")
            yield ToolMessage(call_id, tuple(_parts(body.content or "", path)))
        case _:
            assert_never(body)


def _parts(content: ContentBody, path: str) -> Iterator[Part]:
    for index, part in enumerate(_listed(content)):
        at = f"{path}.content.{index}"
        match part:
            case TextPartBody(text=text) | RefusalPartBody(refusal=text):
                if text.strip():
                    yield TextPart(text)
            case ImagePartBody(image_url=image):
                check_image_url(image.url, f"{at}.image_url.url")
                yield ImagePart(image.url, image.detail)
            case ForeignPartBody():
                raise UnsupportedError(f"{at}: agents here take no parts of type {part.type}, only text and images.", param=at)
            case _:
                assert_never(part)


def _texts(content: ContentBody, path: str) -> tuple[TextPart, ...]:
    for index, part in enumerate(_listed(content)):
        if isinstance(part, ImagePartBody):
            at = f"{path}.content.{index}"
            raise RequestError(f"{at}: only user and tool messages may hold images.", param=at)
    return tuple(part for part in _parts(content, path) if isinstance(part, TextPart))


def _listed(content: ContentBody) -> Sequence[PartBody]:
    return [TextPartBody(type="text", text=content)] if isinstance(content, str) else content


def _assistant_texts(body: AssistantBody, path: str) -> tuple[TextPart, ...]:
    if body.audio is not None:
        raise UnsupportedError(f"{path}.audio: agents here know no audio, send its transcript as content.", param=f"{path}.audio")
    if body.content is None and body.refusal is None and not body.tool_calls and body.function_call is None:
        raise RequestError(f"{path}.content: is required where there are no tool_calls.", param=f"{path}.content")
    texts = () if body.content is None else _texts(body.content, path)
    return (*texts, TextPart(body.refusal)) if body.refusal and body.refusal.strip() else texts


def _calls(body: AssistantBody, index: int) -> tuple[ToolCall, ...]:
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in body.tool_calls or ())
    if (legacy := body.function_call) is not None:
        calls = (*calls, ToolCall(f"function_call_{index}", legacy.name, legacy.arguments))
    return calls


@dataclass(slots=True)
class _Pairing:
    """Which tool calls still lack their result. Results follow their calls directly, as all providers demand."""

    open_calls: dict[str, ToolCall] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    opened_at: str = ""

    def open(self, calls: Sequence[ToolCall], path: str) -> None:
        for index, call in enumerate(calls):
            if call.id in self.seen:
                at = f"{path}.tool_calls.{index}.id"
                raise RequestError(f"{at}: two tool calls have this id.", param=at)
            self.seen.add(call.id)
            self.open_calls[call.id] = call
        self.opened_at = path

    def close(self, call_id: str, at: str) -> None:
        if self.open_calls.pop(call_id, None) is None:
            fault = "the call with this id has its result already" if call_id in self.seen else "no call before it has this id"
            raise RequestError(f"{at}: {fault}.", param=at)

    def close_function(self, name: str, at: str) -> str:
        for call in self.open_calls.values():
            if call.name == name:
                del self.open_calls[call.id]
                return call.id
        raise RequestError(f"{at}: no function call before it has this name and still lacks its result.", param=at)

    def require_results(self) -> None:
        if self.open_calls:
            at = f"{self.opened_at}.tool_calls"
            raise RequestError(
                f"{at}: {len(self.open_calls)} of them have no result; each needs one tool message directly after it.", param=at
            )
