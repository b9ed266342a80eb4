"""Messages become a past of the conversation, and a conversation survives between two runs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openhands.sdk import LLM, TextContent
from openhands.sdk import Message as SDKMessage
from openhands.sdk.event import ActionEvent, Event, LLMConvertibleEvent, MessageEvent, ObservationEvent
from openhands.sdk.llm import MessageToolCall
from openhands.sdk.tool.builtins.finish import FinishAction

from a2a_gateway.agents.history import History, history_of, new_messages
from a2a_gateway.agents.transcript import decode_transcript, encode_transcript
from a2a_gateway.errors import GatewayError, StoreError
from a2a_gateway.runs.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from delegate_tool.masking import HIDDEN, Secrets

SECRET = "sk-0123456789abcdef"


def system(text: str) -> SystemMessage:
    return SystemMessage((TextPart(text),))


def user(text: str) -> UserMessage:
    return UserMessage((TextPart(text),))


def assistant(text: str, *calls: ToolCall) -> AssistantMessage:
    return AssistantMessage((TextPart(text),) if text else (), calls)


def tool(call_id: str, text: str) -> ToolMessage:
    return ToolMessage(call_id, (TextPart(text),))


def as_sent(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """The messages as the SDK would send them to an LLM that takes images."""
    llm = LLM(model="openai/gpt-4o", usage_id="test")
    convertible = [event for event in events if isinstance(event, LLMConvertibleEvent)]
    sent = llm.format_messages_for_llm(LLMConvertibleEvent.events_to_messages(convertible))
    return [{name: value for name, value in message.items() if value} for message in sent]


def text_parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


WEATHER = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
TIME = ToolCall("c2", "get_time", "{}")


def test_every_kind_of_message_reaches_the_llm_in_order() -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    messages: list[Message] = [
        system("Be terse."),
        user("first"),
        assistant("one"),
        UserMessage((TextPart("look"), ImagePart(image))),
        system("Be kind."),
        assistant("Checking.", WEATHER, TIME),
        tool("c2", "noon"),
        tool("c1", "rain"),
        assistant("It rains at noon."),
        user("and now?"),
    ]
    history = history_of(messages, vision=True)
    assert history.system == "Be terse.\n\nBe kind."
    assert as_sent(history.events) == [
        {"role": "user", "content": text_parts("first")},
        {"role": "assistant", "content": text_parts("one")},
        {"role": "user", "content": [*text_parts("look"), {"type": "image_url", "image_url": {"url": image}}]},
        {
            "role": "assistant",
            "content": text_parts("Checking."),
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
                {"id": "c2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "content": text_parts("noon"), "tool_call_id": "c2", "name": "get_time"},
        {"role": "tool", "content": text_parts("rain"), "tool_call_id": "c1", "name": "get_weather"},
        {"role": "assistant", "content": text_parts("It rains at noon.")},
        {"role": "user", "content": text_parts("and now?")},
    ]


@pytest.mark.parametrize(
    ("messages", "code", "param"),
    [
        ([UserMessage((ImagePart("https://example.org/a.png"),))], "unsupported_parameter", "messages.0.content"),
        ([user("x"), tool("c1", "rain")], "invalid_request_error", "messages.1.tool_call_id"),
        ([user("x"), assistant("", WEATHER), user("y")], "invalid_request_error", "messages.1"),
        ([user("x"), assistant("", WEATHER)], "invalid_request_error", "messages.1"),
        ([assistant("", WEATHER), tool("c1", "a"), tool("c1", "b")], "invalid_request_error", "messages.2.tool_call_id"),
        ([assistant("", WEATHER, WEATHER)], "invalid_request_error", "messages.0.tool_calls"),
    ],
)
def test_what_cannot_be_shown_to_the_llm_is_refused_and_never_dropped(messages: list[Message], code: str, param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        history_of(messages, vision=False)
    assert (caught.value.code, caught.value.param) == (code, param)


ROLES = {UserMessage: "user", AssistantMessage: "assistant", ToolMessage: "tool"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
EXCHANGES = st.lists(
    st.one_of(
        TEXT.map(lambda text: [user(text)]),
        TEXT.map(lambda text: [assistant(text)]),
        st.tuples(TEXT, st.integers(1, 3)).map(
            lambda drawn: [
                assistant(drawn[0], *(ToolCall(f"c{n}", "look", "{}") for n in range(drawn[1]))),
                *(tool(f"c{n}", drawn[0]) for n in range(drawn[1])),
            ]
        ),
    ),
    max_size=6,
)


@given(EXCHANGES)
def test_no_message_is_lost_added_or_moved(exchanges: list[list[Message]]) -> None:
    messages = [message for exchange in exchanges for message in exchange]
    history = history_of(messages, vision=False)
    sent = LLMConvertibleEvent.events_to_messages([event for event in history.events if isinstance(event, LLMConvertibleEvent)])
    # The SDK sends neighbouring user messages as one message of several parts, so parts are compared.
    shown = [(message.role, part.text) for message in sent for part in message.content if isinstance(part, TextContent)]
    assert shown == [(ROLES[type(message)], text_of(message.parts)) for message in messages]
    calls = [call.id for message in sent for call in message.tool_calls or ()]
    asked = [call.id for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls]
    assert [call_id.partition("_")[0] for call_id in calls] == asked  # those that are taken get a number
    assert len(calls) == len({*calls})
    assert [message.tool_call_id for message in sent if message.role == "tool"] == calls


def test_an_id_of_a_call_that_the_conversation_had_before_is_made_unique() -> None:
    before = history_of([user("x"), assistant("", WEATHER), tool("c1", "rain")], vision=False)
    now = history_of([assistant("", WEATHER), tool("c1", "sun")], vision=False, before=before.events)
    assert [event.tool_call_id for event in now.events if isinstance(event, ActionEvent | ObservationEvent)] == ["c1_2", "c1_2"]


@given(EXCHANGES, TEXT)
def test_a_transcript_reads_back_as_it_was_written(exchanges: list[list[Message]], system_text: str) -> None:
    history = history_of([message for exchange in exchanges for message in exchange], vision=False)
    read = decode_transcript(encode_transcript(system_text, history.events, Secrets()))
    assert read == History(system_text, history.events)


@pytest.mark.parametrize(
    ("messages", "new"),
    [
        ([user("b")], [user("b")]),
        ([user("a"), assistant("A"), user("b")], [user("b")]),
        ([system("s"), user("a"), assistant("A"), user("b"), user("c")], [system("s"), user("b"), user("c")]),
        ([user("a"), assistant("", WEATHER), tool("c1", "rain")], [assistant("", WEATHER), tool("c1", "rain")]),
        ([user("a"), assistant("A")], []),
    ],
)
def test_of_a_history_sent_again_only_what_follows_the_last_answer_is_new(messages: list[Message], new: list[Message]) -> None:
    assert new_messages(messages) == tuple(new)


def action(call_id: str, response_id: str) -> ActionEvent:
    return ActionEvent(
        thought=[],
        action=FinishAction(message="x"),
        tool_name="finish",
        tool_call_id=call_id,
        tool_call=MessageToolCall(id=call_id, name="finish", arguments="{}", origin="completion"),
        llm_response_id=response_id,
    )


def test_a_call_that_a_cancelled_run_left_open_is_closed_and_can_never_run_again() -> None:
    said = MessageEvent(source="user", llm_message=SDKMessage(role="user", content=[TextContent(text="go")]))
    read = decode_transcript(encode_transcript("", [said, action("c1", "r1"), action("c2", "r1")], Secrets()))
    assert [(type(event).__name__, getattr(event, "tool_call_id", "")) for event in read.events] == [
        ("MessageEvent", ""),
        ("ActionEvent", "c1"),
        ("ActionEvent", "c2"),
        ("AgentErrorEvent", "c1"),
        ("AgentErrorEvent", "c2"),
    ]
    assert [event.action for event in read.events if isinstance(event, ActionEvent)] == [None, None]


@pytest.mark.parametrize("secret", [SECRET, 'sk-"quoted"\\0123', "sk-geheimnisträger"])
def test_no_known_secret_is_written_into_a_transcript(secret: str) -> None:
    arguments = json.dumps({"city": secret})
    messages: list[Message] = [
        user(f"my key is {secret}"),
        assistant("", ToolCall("c1", "weather", arguments)),
        tool("c1", secret),
    ]
    text = encode_transcript(f"use {secret}", history_of(messages, vision=False).events, Secrets.of([secret]))
    assert text.count(HIDDEN) == 4
    head, *events = map(json.loads, text.split("\n"))
    assert head["system"] == f"use {HIDDEN}"
    assert [json.loads(event["tool_call"]["arguments"]) for event in events if "tool_call" in event] == [{"city": HIDDEN}]


@pytest.mark.parametrize(
    "text", ["", "{}", "null", '{"version": 99, "system": ""}', json.dumps({"version": 1, "system": ""}) + "\n{}"]
)
def test_a_damaged_transcript_is_a_store_error(text: str) -> None:
    with pytest.raises(StoreError):
        decode_transcript(text)
