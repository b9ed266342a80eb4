"""Parse the messages of a body: roles, parts, and that each tool call has exactly one result.

`body` checks the shape; this module checks which parts a role may have, what is empty, and the order. Every resulting message has
content. Empty messages are left out, because clients keep some and providers refuse them; so is blank text beside other parts.
Only the last user message must not be blank, and only a tool result may be empty. The messages always contain a task: without a
user message, the last system message is the task; after an answer, the task is to continue it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

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
from a2a_gateway.wire.chat.body import (
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
    ThinkingPartBody,
    ToolBody,
    UserBody,
)
from a2a_gateway.wire.chat.image_url import check_image_url

_CONTINUE: Final = (
    "Continue your last message exactly where it ends. Repeat nothing of it, and write nothing before the continuation."
)


def parse_messages(bodies: Sequence[MessageBody]) -> tuple[Message, ...]:
    """Parse the messages of a body, in order. System messages aside, the last one is a user's or a tool's.

    Raises:
        RequestError: a message holds what its role cannot, stands where it cannot, or asks for nothing.
    """
    pairing, messages, blank = _Pairing(), list[Message](), None
    for index, body in enumerate(bodies):
        parsed = tuple(_parse(body, index, pairing))
        messages += parsed
        if not isinstance(body, SystemBody):
            blank = index if isinstance(body, UserBody) and not parsed else None
    pairing.require_results()
    if blank is not None:
        raise RequestError(f"messages.{blank}.content: must not be empty.", param=f"messages.{blank}.content")
    return tuple(_with_task(messages))


def _with_task(messages: Sequence[Message]) -> Sequence[Message]:
    """Add the task where no user message has one. The LLM behind OpenAI's API infers it from the other messages."""
    last = next((message for message in reversed(messages) if not isinstance(message, SystemMessage)), None)
    if isinstance(last, AssistantMessage):
        return [*messages, UserMessage((TextPart(_CONTINUE),))]
    if any(isinstance(message, UserMessage) for message in messages):
        return messages
    for index, message in reversed(list(enumerate(messages))):
        if isinstance(message, SystemMessage):
            return [*messages[:index], UserMessage(message.parts), *messages[index + 1 :]]
    raise RequestError("messages: at least one must come from the user, it is the agent's task.", param="messages")


def _parse(body: MessageBody, index: int, pairing: "_Pairing") -> Iterator[Message]:
    path = f"messages.{index}"
    if not isinstance(body, ToolBody | FunctionBody):
        pairing.require_results()
    match body:
        case SystemBody():
            if texts := _texts(body.content, path):
                yield SystemMessage(texts)
        case UserBody():
            if parts := tuple(_parts(body.content, path)):
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
    for index, part in enumerate(_parts_of(content)):
        at = f"{path}.content.{index}"
        match part:
            case TextPartBody(text=text) | RefusalPartBody(refusal=text):
                if text.strip():
                    yield TextPart(text)
            case ImagePartBody(image_url=image):
                check_image_url(image.url, f"{at}.image_url.url")
                yield ImagePart(image.url, image.detail)
            case ThinkingPartBody():
                raise RequestError(f"{at}: only assistant messages may hold parts of type {part.type}.", param=at)
            case ForeignPartBody():
                raise UnsupportedError(f"{at}: agents here take no parts of type {part.type}, only text and images.", param=at)
            case _:
                assert_never(part)


def _texts(content: ContentBody, path: str) -> tuple[TextPart, ...]:
    for index, part in enumerate(_parts_of(content)):
        if isinstance(part, ImagePartBody):
            at = f"{path}.content.{index}"
            raise RequestError(f"{at}: only user and tool messages may hold images.", param=at)
    return tuple(part for part in _parts(content, path) if isinstance(part, TextPart))


def _parts_of(content: ContentBody) -> Sequence[PartBody]:
    return [TextPartBody(type="text", text=content)] if isinstance(content, str) else content


def _assistant_texts(body: AssistantBody, path: str) -> tuple[TextPart, ...]:
    if body.audio is not None:
        raise UnsupportedError(f"{path}.audio: agents here know no audio, send its transcript as content.", param=f"{path}.audio")
    content = body.content or ()
    if not isinstance(content, str):
        content = [part for part in content if not isinstance(part, ThinkingPartBody)]
    texts = _texts(content, path)
    return (*texts, TextPart(body.refusal)) if body.refusal and body.refusal.strip() else texts


def _calls(body: AssistantBody, index: int) -> tuple[ToolCall, ...]:
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in body.tool_calls or ())
    if (legacy := body.function_call) is not None:
        calls = (*calls, ToolCall(f"function_call_{index}", legacy.name, legacy.arguments))
    return calls


@dataclass(slots=True)
class _Pairing:
    """The tool calls that still lack a result. Results follow their calls directly, as all providers require."""

    open_calls: dict[str, ToolCall] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    opened_at: str = ""

    def open(self, calls: Sequence[ToolCall], path: str) -> None:
        for index, call in enumerate(calls):
            if call.id in self.open_calls:
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
