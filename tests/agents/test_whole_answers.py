"""Answers in another form than was asked for, as bodies."""

import json
from typing import Any

import pytest

from a2a_gateway.agents.whole_answers import as_events, error_status

CALL = {"id": "call-1", "type": "function", "function": {"name": "think", "arguments": "{}"}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def completion(message: object, **more: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}).encode()


def events_of(body: bytes) -> list[dict[str, Any]]:
    events = as_events(body)
    assert events is not None
    return [json.loads(line.removeprefix("data: ")) for line in events.decode().split("\n\n") if line.startswith("data: {")]


def test_a_completion_becomes_its_text_its_end_and_its_usage() -> None:
    said, end, usage = events_of(b"\n \n" + completion({"role": "assistant", "content": "Hi\u2028."}, usage=USAGE))
    assert said["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": "Hi\u2028."}, "finish_reason": None}]
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (usage["choices"], usage["usage"], usage["object"]) == ([], USAGE, "chat.completion.chunk")
    assert (as_events(completion({"content": "Hi."})) or b"").endswith(b"data: [DONE]\n\n")


def test_tool_calls_of_a_completion_get_the_index_that_a_stream_has() -> None:
    said = events_of(completion({"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}))[0]
    assert [call["index"] for call in said["choices"][0]["delta"]["tool_calls"]] == [0, 1]


def test_a_response_is_one_event_of_its_stream() -> None:
    response = {"id": "r", "object": "response", "output": [], "status": "completed"}
    assert events_of(json.dumps(response).encode()) == [
        {"type": "response.completed", "sequence_number": 0, "response": response}
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b"{}",
        b"[" * 10_000,
        b'{"choices": 1}',
        b'{"choices": []}',
        b'{"choices": [1]}',
        b'{"choices": [{"message": null}]}',
    ],
)
def test_what_is_no_answer_does_not_become_a_stream(body: bytes) -> None:
    assert as_events(body) is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "slow", "code": 429}}, 429),
        ({"error": {"message": "slow", "status": 503, "code": "busy"}}, 503),
        ({"error": {"message": "slow", "code": "busy"}}, 502),
        ({"error": {"message": "slow", "code": 7}}, 502),
        ({"error": "Model unloaded."}, 502),
        ({"error": None, "output": []}, None),
        ({"error": {}}, None),
        ({"error": {"message": "odd"}, "choices": [{"message": {"content": "but an answer"}}]}, None),
        ({"choices": [{"message": {"content": 'says "error"'}}]}, None),
    ],
)
def test_an_error_with_status_200_has_the_status_that_it_names(body: dict[str, Any], status: int | None) -> None:
    assert error_status(json.dumps(body).encode()) == status
