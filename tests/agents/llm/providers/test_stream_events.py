"""A stream's bytes become the same events however they are cut, and nothing of them is lost."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.agents.llm.providers.call_ids import CallIds
from a2a_gateway.agents.llm.providers.stream_events import AnswerDamaged, EventReader, StreamEvent, render_line
from a2a_gateway.agents.llm.providers.stream_reading import StreamReading

OBJECTS = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(), min_size=1, max_size=3)
EVENTS = st.lists(OBJECTS, max_size=3)
LINE_END = st.sampled_from(["\n", "\r\n", "\r"])


def read(pieces: Iterable[bytes]) -> list[dict[str, Any] | None]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [event.value for event in [*events, *reader.finish()]]


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    places: list[int] = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(EVENTS, LINE_END, st.lists(st.integers(0, 200), max_size=4), st.booleans())
def test_events_are_read_as_they_were_written_wherever_the_bytes_are_cut(
    events: list[dict[str, Any]], end: str, at: list[int], is_sse: bool
) -> None:
    noise = f": hm{end}event: message{end}id: 1{end}retry:2{end}" if is_sse else end
    field, gap = ("data: ", end * 2) if is_sse else ("", end)
    written = "".join(f"{noise}{field}{json.dumps(event, ensure_ascii=False)}{gap}" for event in events)
    data = written.encode("utf-8", "replace")
    assert read(cut(data, at)) == [
        json.loads(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")) for event in events
    ]


@given(OBJECTS, st.booleans())
def test_litellm_is_given_one_line_of_ascii_that_says_the_same(event: dict[str, Any], is_line: bool) -> None:
    line = render_line(StreamEvent(event, is_line))
    assert line.isascii()
    assert line.splitlines() == [line]
    assert "[DONE]" not in line
    assert json.loads(line if is_line else line.removeprefix("data: ")) == event


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param('\ufeffdata: {"a": 1}\n\n', [{"a": 1}], id="a byte order mark"),
        pytest.param('data:{"a": 1}', [{"a": 1}], id="no space and no end"),
        pytest.param('data: {"a": 1}\ndata: {"b": 2}\n', [{"a": 1}, {"b": 2}], id="no empty lines"),
        pytest.param('data: {"a":\ndata: 1}\n\ndata: {"b":\ndata: 2}', [{"a": 1}, {"b": 2}], id="data of two lines"),
        pytest.param('{\n  "a": 1,\n\n  "b": 2\n}\n', [{"a": 1, "b": 2}], id="a document of several lines"),
        pytest.param('data: {"a": "\t\x0b"}\n\n', [{"a": "\t\x0b"}], id="control characters"),
        pytest.param("data: [DONE]\n\n", [None], id="the mark"),
        pytest.param('data: {"a": "[DONE]"}\n\n', [{"a": "[DONE]"}], id="the mark in a string"),
        pytest.param("event: ping\ndata: now\n\ndata: {}\n\ndata: null\n\ndata\n\n:\n\n", [], id="keep-alives"),
    ],
)
def test_what_servers_send_is_read(stream: str, events: list[dict[str, Any] | None]) -> None:
    data = stream.encode()
    for step in (1, 3, len(data)):
        assert read(cut(data, range(0, len(data), step))) == events


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"a": 1',
        b'data: {"a": 1\n\n',
        b'data: {"a": 1}\n\n{"b',
        b"data: {]}\n\ndata: {}\n\n",
        b"data: 7\n\n",
        b'data: ["a"]\n\n',
        b'data: "a"\n\n',
        b'data: {"a": "\xc3"}\n\n',
        b'data: {"a": "\xed\xa0\x80"}\n\n',
        b'dat: {"a": 1}\n\n',
        b'{"a": 1}\n{"a": \n{"b": 2}\n',
        b"<html>\n",
        b"data: " + b"[" * 5_000 + b"\n\n",
    ],
)
def test_what_cannot_be_read_is_never_skipped(stream: bytes) -> None:
    with pytest.raises(AnswerDamaged):
        read([stream])


def test_an_event_that_never_ends_is_refused() -> None:
    reader = EventReader()
    with pytest.raises(AnswerDamaged):
        for _ in range(70):
            list(reader.feed(b"x" * 1024 * 1024))


@pytest.mark.parametrize(
    ("events", "is_complete"),
    [
        ([], False),
        ([{"choices": [{"delta": {}, "finish_reason": None}]}], False),
        ([{"choices": [{"delta": {}, "finish_reason": "stop"}]}], True),
        ([{"choices": []}, None], True),
        ([{"type": "ping"}, {"type": "message_start", "message": {}}], False),
        ([{"type": "message_start", "message": {}}, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}], False),
        ([{"type": "message_start", "message": {}}, None], False),
        ([{"type": "message_start", "message": {}}, {"type": "message_stop"}], True),
        ([{"candidates": [{"content": {}}]}], False),
        ([{"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED"}]}], False),
        ([{"candidates": [{"finishReason": "MAX_TOKENS"}]}], True),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], True),
        ([{"message": {}, "done": False}], False),
        ([{"message": {}, "done": False}, {"done": True}], True),
        ([{"type": "response.created", "response": {}}], False),
        ([{"type": "response.created", "response": {}}, {"type": "response.incomplete", "response": {}}], True),
        ([{"of": "a format without a reader"}], None),
    ],
)
def test_an_answer_is_complete_with_its_provider_s_own_mark(
    events: list[dict[str, Any] | None], is_complete: bool | None
) -> None:
    reading = StreamReading(CallIds())
    stream = "".join(f"data: {'[DONE]' if event is None else json.dumps(event)}\n\n" for event in events)
    assert len([*reading.feed(stream.encode()), *reading.finish()]) == len(events)
    assert reading.is_complete is is_complete


@pytest.mark.parametrize(
    "event",
    [
        {"choices": "text"},
        {"choices": [7]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"tool_calls": "text"}}]},
        {"type": "content_block_delta", "delta": "text"},
        {"type": "content_block_start", "content_block": {"text": "text"}},
        {"candidates": [{"content": "text"}]},
        {"message": "text", "done": False},
        {"type": "response.completed", "response": "text"},
    ],
    ids=str,
)
def test_a_part_that_no_reader_of_its_format_can_read_is_damage(event: dict[str, Any]) -> None:
    reading = StreamReading(CallIds())
    with pytest.raises(AnswerDamaged):
        list(reading.feed(f"data: {json.dumps(event)}\n\n".encode()))
    assert reading.damage is not None
