"""Requests: what is honoured, what is refused and how precisely, what is ignored and named."""

from typing import Any

import pytest

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.messages import (
    AnswerFormat,
    AssistantMessage,
    ImagePart,
    Sampling,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.wire.chat.request import CompletionRequest, parse_chat_request
from delegate_tool.protocol.context import DelegationContext
from tests.wire.samples import PIXEL, USER, body, call, schema_format


def asks(*calls: dict[str, object]) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(call_id: str = "c1") -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": "found"}


def parts(*items: object) -> list[object]:
    return [{"role": "user", "content": list(items)}]


def image(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_a_whole_request_is_read_field_by_field() -> None:
    request = parse_chat_request(
        body(
            messages=[
                {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
                {"role": "user", "content": [{"type": "text", "text": "see"}, image(PIXEL)], "name": "ada"},
                {"role": "assistant", "content": "let me look", "tool_calls": [call("c1"), call("c2", arguments='{"q": 1}')]},
                {"role": "tool", "tool_call_id": "c2", "content": ""},
                {
                    "role": "tool",
                    "tool_call_id": "c1",
                    "content": [{"type": "text", "text": "found"}, image("https://x.org/i.png")],
                },
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": None},
                {"role": "user", "content": "go on"},
            ],
            temperature=0,
            top_p=0.5,
            max_tokens=100,
            max_completion_tokens=50,
            stop=["END", "\n\n"],
            seed=-7,
            reasoning_effort="high",
            response_format=schema_format({"type": "object"}),
            stream=True,
            stream_options={"include_usage": True},
            a2a={"budget_usd": 0.5, "max_depth": 5},
        ),
        {"x-a2a-max-depth": "2", "x-a2a-budget-usd": "0.75", "authorization": "Bearer secret"},
    )

    run = RunRequest(
        model="openhands_default",
        messages=(
            SystemMessage((TextPart("be brief"),)),
            UserMessage((TextPart("see"), ImagePart(PIXEL)), "ada"),
            AssistantMessage((TextPart("let me look"),), (ToolCall("c1", "search", "{}"), ToolCall("c2", "search", '{"q": 1}'))),
            ToolMessage("c2", ()),
            ToolMessage("c1", (TextPart("found"), ImagePart("https://x.org/i.png"))),
            AssistantMessage((TextPart("no"),)),
            UserMessage((TextPart("go on"),)),
        ),
        context=DelegationContext(max_depth=2, budget_micro_usd=500_000),
        sampling=Sampling(0.0, 0.5, 50, ("END", "\n\n"), -7, "high"),
        answer_format=AnswerFormat("json_schema", "answer", {"type": "object"}),
    )
    assert request == CompletionRequest(run, stream=True, include_usage=True, ignored=("messages.*.name",))


def test_functions_of_the_time_before_tools_become_tool_turns() -> None:
    request = parse_chat_request(
        body(
            messages=[
                USER,
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "42"},
            ]
        ),
        {},
    )
    assert request.run.messages[1:] == (
        AssistantMessage((), (ToolCall("function_call_1", "f", "{}"),)),
        ToolMessage("function_call_1", (TextPart("42"),)),
    )


def test_messages_that_say_nothing_are_left_out() -> None:
    request = parse_chat_request(
        body(
            messages=[
                {"role": "system", "content": ""},
                {"role": "assistant", "content": " "},
                {"role": "user", "content": [{"type": "text", "text": "  "}, {"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": ""},
            ]
        ),
        {},
    )
    assert request.run.messages == (UserMessage((TextPart("hi"),)),)


SAYS = {"role": "assistant", "content": "Sure, "}
SYSTEM = {"role": "system", "content": "Greet."}
BLANK = {"role": "user", "content": " "}


@pytest.mark.parametrize(
    ("sent", "roles"),
    [
        ([SYSTEM], "user"),
        ([SYSTEM, {"role": "developer", "content": "Be brief."}], "system user"),
        ([SYSTEM, asks(call()), result()], "user assistant tool"),
        ([BLANK, SAYS, USER], "assistant user"),
        ([BLANK, USER], "user"),
        ([USER, BLANK, {"role": "assistant", "content": None}], "user"),
        ([{"role": "assistant"}, USER], "user"),
        ([{"role": "assistant", "content": None, "tool_calls": []}, USER], "user"),
        ([USER, asks(call()), result(), asks(call()), result()], "user assistant tool assistant tool"),
    ],
)
def test_messages_that_openai_takes_are_taken(sent: list[object], roles: str) -> None:
    names = {SystemMessage: "system", UserMessage: "user", AssistantMessage: "assistant", ToolMessage: "tool"}
    messages = parse_chat_request(body(messages=sent), {}).run.messages
    assert " ".join(names[type(message)] for message in messages) == roles


@pytest.mark.parametrize("before", [[USER], [SYSTEM]])
def test_an_answer_that_stands_last_is_to_be_continued(before: list[object]) -> None:
    *others, task = parse_chat_request(body(messages=[*before, SAYS]), {}).run.messages
    assert others[-1] == AssistantMessage((TextPart("Sure, "),))
    assert isinstance(task, UserMessage)


def test_what_an_assistant_thought_is_left_out_and_named() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    sent = {"role": "assistant", "content": [thought, {"type": "reasoning", "text": "ho"}, {"type": "text", "text": "hi"}]}
    request = parse_chat_request(body(messages=[USER, sent, USER]), {})
    assert request.run.messages[1] == AssistantMessage((TextPart("hi"),))
    assert request.ignored == tuple(f"messages.*.content.*.{name}" for name in ("signature", "text", "thinking"))


@pytest.mark.parametrize(
    "sent",
    [
        {"max_tokens": -1},
        {"max_completion_tokens": -1},
        {"stop": ""},
        {"stop": [""]},
        {"reasoning_effort": "default"},
        {"reasoning_effort": "auto"},
    ],
    ids=str,
)
def test_values_that_want_nothing_are_taken_for_nothing(sent: dict[str, object]) -> None:
    request = parse_chat_request(body(**sent), {})
    assert (request.run.sampling, request.ignored) == (Sampling(), ())


def test_a_system_message_may_stand_last() -> None:
    request = parse_chat_request(body(messages=[USER, {"role": "system", "content": "stay in character"}]), {})
    assert request.run.messages == (UserMessage((TextPart("hi"),)), SystemMessage((TextPart("stay in character"),)))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [({"max_tokens": 9}, 9), ({"max_completion_tokens": 8}, 8), ({"max_tokens": 7, "max_completion_tokens": 70}, 7), ({}, None)],
)
def test_the_narrower_of_both_output_caps_counts(sent: dict[str, object], expected: int | None) -> None:
    assert parse_chat_request(body(**sent), {}).run.sampling == Sampling(max_output_tokens=expected)


def test_usage_is_only_wanted_in_streams() -> None:
    whole = parse_chat_request(body(stream_options={"include_usage": True}), {})
    assert (whole.stream, whole.include_usage, whole.ignored) == (False, False, ("stream_options.include_usage",))


MALFORMED = {
    "empty": b"",
    "cut": b'{"model": "m", "mess',
    "not an object": b"[]",
    "NaN": b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    "Infinity": b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "foo": -Infinity}',
    "escaped lone surrogate": b'{"model": "m", "messages": [{"role": "user", "content": "\\ud83d"}]}',
    "encoded lone surrogate": b'{"model": "m", "messages": [{"role": "user", "content": "\xed\xa0\xbd"}]}',
    "invalid UTF-8": b'{"model": "m\xff"}',
    "deep nesting": b'{"model": "m", "foo": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "endless number": b'{"model": "m", "foo": ' + b"9" * 100_000 + b"}",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_refused_and_not_quoted(sent: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(sent, {})
    assert (caught.value.code, caught.value.param) == ("invalid_request_error", None)
    assert len(caught.value.message) < 200


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": ["hi"]}, "messages.0"),
    ({"messages": [{"content": "hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages.0.role"),
    ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages.0.role"),
    ({"messages": [USER, {"role": "user"}]}, "messages.1.content"),
    ({"messages": [USER, {"role": "user", "content": None}]}, "messages.1.content"),
    ({"messages": [USER, {"role": "user", "content": 5}]}, "messages.1.content"),
    ({"messages": [USER, {"role": "user", "content": ""}]}, "messages.1.content"),
    ({"messages": [USER, {"role": "user", "content": " \n"}]}, "messages.1.content"),
    ({"messages": [USER, {"role": "user", "content": []}]}, "messages.1.content"),
    ({"messages": [{"role": "user", "content": "hi", "name": 5}]}, "messages.0.name"),
    ({"messages": parts("hi")}, "messages.0.content.0"),
    ({"messages": parts({"type": "text", "text": "hi"}, {"type": "text"})}, "messages.0.content.1.text"),
    ({"messages": parts({"type": "hologram"})}, "messages.0.content.0.type"),
    ({"messages": parts({"type": "thinking", "thinking": "hm"})}, "messages.0.content.0"),
    ({"messages": [{"role": "system", "content": " "}]}, "messages"),
    ({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": ""}]}, "messages.1.content"),
    ({"messages": parts({"type": "image_url", "image_url": PIXEL})}, "messages.0.content.0.image_url"),
    (
        {"messages": parts({"type": "image_url", "image_url": {"url": PIXEL, "detail": "all"}})},
        "messages.0.content.0.image_url.detail",
    ),
    ({"messages": [{"role": "system", "content": [image(PIXEL)]}, USER]}, "messages.0.content.0"),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": ""}, image(PIXEL)]}, USER]},
        "messages.0.content.1",
    ),
    ({"messages": [asks(call()), result()]}, "messages"),
    ({"messages": [USER, asks(call(arguments={})), result()]}, "messages.1.tool_calls.0.function.arguments"),
    ({"messages": [USER, asks(call(), {"id": "c2", "type": "custom"}), result()]}, "messages.1.tool_calls.1.type"),
    ({"messages": [USER, asks(call(""))]}, "messages.1.tool_calls.0.id"),
    ({"messages": [USER, asks(call(), call())]}, "messages.1.tool_calls.1.id"),
    ({"messages": [USER, asks(call())]}, "messages.1.tool_calls"),
    ({"messages": [USER, asks(call()), USER, result()]}, "messages.1.tool_calls"),
    ({"messages": [USER, asks(call()), USER]}, "messages.1.tool_calls"),
    ({"messages": [USER, asks(call("c1"), call("c2")), result("c1"), USER]}, "messages.1.tool_calls"),
    ({"messages": [USER, result()]}, "messages.1.tool_call_id"),
    ({"messages": [USER, asks(call()), result(), result()]}, "messages.3.tool_call_id"),
    ({"messages": [USER, asks(call()), result("other")]}, "messages.2.tool_call_id"),
    ({"messages": [USER, {"role": "tool", "content": "found"}]}, "messages.1.tool_call_id"),
    ({"messages": [USER, {"role": "function", "name": "f", "content": "found"}]}, "messages.1.name"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 1.01}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"stop": 5}, "stop"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"seed": 2**63}, "seed"),
    ({"reasoning_effort": "heroic"}, "reasoning_effort"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"n": 0}, "n"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format.json_schema.schema"),
    ({"response_format": schema_format({}, "a b")}, "response_format.json_schema.name"),
    ({"a2a": []}, "a2a"),
    ({"a2a": {"max_depth": -1}}, "a2a.max_depth"),
    ({"a2a": {"max_depth": 10**4000}}, "a2a.max_depth"),
    ({"a2a": {"unknown": 3}}, "a2a.unknown"),
]


@pytest.mark.parametrize(("sent", "param"), INVALID, ids=[f"{index}-{param}" for index, (_, param) in enumerate(INVALID)])
def test_what_does_not_fit_is_refused_with_its_path(sent: dict[str, object], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body(**sent), {})
    assert (caught.value.code, caught.value.param) == ("invalid_request_error", param)
    assert caught.value.message.startswith(param)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.org/i.png",
        "file:///etc/passwd",
        "/i.png",
        "https://",
        "https://x.org/a b",
        "http://[::1",
        "data:text/html;base64,QUJD",
        "data:image/png,QUJD",
        "data:image/png;base64,",
        "data:image/png;base64,QUJ",
        "data:image/png;base64,QU*D",
        "http://localhost:8080/i.png",
        "http://LOCALHOST./i.png",
        "http://printer.local/i.png",
        "http://metadata.google.internal/i.png",
        "http://127.0.0.1/i.png",
        "http://127.1/i.png",
        "http://2130706433/i.png",
        "http://0x7f000001/i.png",
        "http://10.0.0.8/i.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/i.png",
        "http://[::ffff:10.0.0.8]/i.png",
        "http://[fe80::1%25eth0]/i.png",
        "http://0.0.0.0/i.png",
    ],
)
def test_an_image_is_a_link_to_a_public_host_or_base64_data(url: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body(messages=parts(image(url))), {})
    assert caught.value.param == "messages.0.content.0.image_url.url"


@pytest.mark.parametrize("url", ["https://x.org/i.png", "http://8.8.8.8:81/i.png", "https://[2606:4700::1111]/i.png"])
def test_an_image_may_be_linked_from_a_public_host(url: str) -> None:
    request = parse_chat_request(body(messages=parts(image(url))), {})
    assert request.run.messages == (UserMessage((ImagePart(url),)),)


_DETAIL = "messages.*.content.*.image_url.detail"


@pytest.mark.parametrize(("detail", "ignored"), [("high", (_DETAIL,)), ("original", (_DETAIL,)), ("auto", ()), (None, ())])
def test_the_detail_of_an_image_has_no_effect_and_is_named(detail: str | None, ignored: tuple[str, ...]) -> None:
    part = {"type": "image_url", "image_url": {"url": PIXEL, "detail": detail}}
    assert parse_chat_request(body(messages=parts(part)), {}).ignored == ignored


def test_a_million_misfits_are_refused_at_the_first() -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(b'{"model": "m", "messages": [' + b"1," * 1_000_000 + b"1]}", {})
    assert caught.value.param == "messages.0"


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"messages": parts({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})}, "messages.0.content.0"),
        ({"messages": parts({"type": "text", "text": "x"}, {"type": "file", "file": {"file_id": "f"}})}, "messages.0.content.1"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}, USER]}, "messages.0.audio"),
    ],
)
def test_what_an_agent_cannot_honour_is_refused_rather_than_ignored(sent: dict[str, object], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body(**sent), {})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


def test_a_malformed_header_is_refused_by_its_name() -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body(), {"x-a2a-timeout": "soon"})
    assert (caught.value.code, caught.value.param) == ("invalid_request_error", "X-A2A-Timeout")


def test_a_body_of_the_responses_api_is_told_what_is_missing() -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(b'{"model": "m", "input": [{"role": "user", "content": "hi"}], "stream": true}', {})
    assert (caught.value.param, "`input`" in caught.value.message) == ("messages", True)
