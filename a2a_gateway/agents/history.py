"""Translate the caller's messages to the SDK's events, and select those that are new to a continued conversation. Pure.

The order is kept and no message is dropped. Tool calls of the *caller's* assistant become actions that are not executed, and
their results become observations. So the condenser keeps each call with its result, which it does not do with plain messages.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from openhands.sdk import ImageContent, TextContent
from openhands.sdk import Message as SDKMessage
from openhands.sdk.event import ActionEvent, Event, MessageEvent, ObservationEvent
from openhands.sdk.llm import MessageToolCall
from openhands.sdk.tool import Observation

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
    text_of,
)


class HistoryObservation(Observation):
    """The result of a tool call from before this run, in the form in which the LLM receives it."""


@dataclass(frozen=True, slots=True)
class History:
    """The conversation before the agent's first turn.

    Attributes:
        system: the text of the system and developer messages; may be empty.
    """

    system: str
    events: tuple[Event, ...]


def history_of(messages: Sequence[Message], *, vision: bool, before: Sequence[Event] = ()) -> History:
    """Translate messages; every tool result must follow its call, and every call must have its result.

    The id of a tool call is made unique, as providers demand, if an earlier call or one of the events `before` has it already.

    Raises:
        UnsupportedError: there is an image, and the model does not accept images.
        RequestError: a tool call without a result, or a result without a call.
    """
    if not vision:
        _refuse_images(messages)
    system = [text_of(message.parts) for message in messages if isinstance(message, SystemMessage)]
    return History("\n\n".join(text for text in system if text), tuple(_EventBuilder(before).build(messages)))


def new_messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages that a conversation does not have yet; a caller may send all earlier ones again.

    New are the messages after the last assistant message, which the conversation itself produced, and any system message. If tool
    results follow the assistant message, it is new too: the conversation has not seen its calls.
    """
    last = max((index for index, message in enumerate(messages) if isinstance(message, AssistantMessage)), default=-1)
    start = last + 1
    if start < len(messages) and isinstance(messages[start], ToolMessage):
        start = last
    return tuple(message for index, message in enumerate(messages) if index >= start or isinstance(message, SystemMessage))


class _EventBuilder:
    """Builds the events of one list of messages. Calls that still lack a result are kept by the caller's ids."""

    def __init__(self, before: Sequence[Event]) -> None:
        self._events: list[Event] = []
        self._unanswered: dict[str, ActionEvent] = {}
        self._taken = {event.tool_call_id for event in before if isinstance(event, ActionEvent)}

    def build(self, messages: Sequence[Message]) -> list[Event]:
        for index, message in enumerate(messages):
            match message:
                case SystemMessage():
                    continue
                case UserMessage(parts=parts):
                    self._require_answers(index)
                    self._add_message("user", parts)
                case AssistantMessage(parts=parts, tool_calls=()):
                    self._require_answers(index)
                    self._add_message("assistant", parts)
                case AssistantMessage(parts=parts, tool_calls=calls):
                    self._require_answers(index)
                    self._add_calls(index, parts, calls)
                case ToolMessage():
                    self._add_result(index, message)
                case _:
                    assert_never(message)
        self._require_answers(len(messages))
        return self._events

    def _add_message(self, role: str, parts: Sequence[Part]) -> None:
        message = SDKMessage(role="user" if role == "user" else "assistant", content=_content(parts))
        self._events.append(MessageEvent(source="user" if role == "user" else "agent", llm_message=message))

    def _add_calls(self, index: int, parts: Sequence[TextPart], calls: Sequence[ToolCall]) -> None:
        for position, call in enumerate(calls):
            if call.id in self._unanswered:
                raise RequestError(
                    f"Two tool calls have the id {call.id[:60]!r}: give each its own.", param=f"messages.{index}.tool_calls"
                )
            unique = self._unique_id(call.id)
            action = ActionEvent(
                thought=[TextContent(text=part.text) for part in parts] if position == 0 else [],
                tool_name=call.name,
                tool_call_id=unique,
                tool_call=MessageToolCall(id=unique, name=call.name, arguments=call.arguments, origin="completion"),
                llm_response_id=f"history-{index}",
            )
            self._unanswered[call.id] = action
            self._events.append(action)

    def _unique_id(self, call_id: str) -> str:
        candidates = itertools.chain([call_id], (f"{call_id}_{number}" for number in itertools.count(2)))
        unique = next(candidate for candidate in candidates if candidate not in self._taken)
        self._taken.add(unique)
        return unique

    def _add_result(self, index: int, message: ToolMessage) -> None:
        action = self._unanswered.pop(message.tool_call_id, None)
        if action is None:
            raise RequestError(
                f"The tool message has tool_call_id {message.tool_call_id[:60]!r}: no earlier call of that id lacks a result.",
                param=f"messages.{index}.tool_call_id",
            )
        self._events.append(build_observation_event(action, HistoryObservation(content=_content(message.parts))))

    def _require_answers(self, index: int) -> None:
        if self._unanswered:
            missing = ", ".join(repr(call_id[:60]) for call_id in self._unanswered)
            raise RequestError(
                f"These tool calls have no tool message with their result: {missing}. Send one for each, directly after them.",
                param=f"messages.{index - 1}",
            )


def build_observation_event(action: ActionEvent, observation: HistoryObservation) -> ObservationEvent:
    """Pair a call with its result."""
    return ObservationEvent(
        observation=observation, action_id=action.id, tool_name=action.tool_name, tool_call_id=action.tool_call_id
    )


def _content(parts: Sequence[Part]) -> list[TextContent | ImageContent]:
    return [TextContent(text=part.text) if isinstance(part, TextPart) else ImageContent(image_urls=[part.url]) for part in parts]


def _refuse_images(messages: Sequence[Message]) -> None:
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage | ToolMessage) and any(isinstance(part, ImagePart) for part in message.parts):
            raise UnsupportedError(
                "This model does not accept images. Send text only, or choose a model whose capabilities include vision.",
                param=f"messages.{index}.content",
            )
