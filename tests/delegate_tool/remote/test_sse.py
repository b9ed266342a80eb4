"""Server-sent events are decoded the same way however the network cuts them, and the last one is not lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate_tool.remote.sse import MAX_EVENT_BYTES, EventDecoder, ServerSentEvent
from tests.error_texts.texts import pattern_of

LINES = st.lists(
    st.sampled_from(
        ["data: a", "data:b\u2028\u2029\x85c", "data:", ": a comment", "event: ping", "id: 7", "retry: 3000", "data", ""]
    ),
    max_size=20,
)


def decode(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = EventDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + list(decoder.end())


@given(lines=LINES, line_end=st.sampled_from(["\n", "\r", "\r\n"]), cuts=st.lists(st.integers(0, 300), max_size=20))
def test_events_do_not_depend_on_how_the_stream_is_cut(lines: list[str], line_end: str, cuts: list[int]) -> None:
    body = "".join(line + line_end for line in lines).encode()
    bounds = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    assert decode(*(body[start:end] for start, end in pairwise(bounds))) == decode(body)


@given(st.lists(st.sampled_from([b"data", b"id", b"event", b":", b" ", b"{", b"\r", b"\n", b"\r\n", b"\xc3\xa9", b"\xff"])))
def test_any_bytes_decode_alike_whole_and_byte_by_byte(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    assert decode(body) == decode(*(body[at : at + 1] for at in range(len(body))))


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_only_the_three_line_ends_of_the_format_end_a_line(line_end: str) -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive\x0csix"
    assert decode(f"data: {text}{line_end}{line_end}".encode()) == [ServerSentEvent("", text.encode())]


@pytest.mark.parametrize("keep_alive", [": waiting", "event: ping", "id: 1", "retry: 3000", "data:", "data", "unknown: 1"])
def test_lines_that_carry_no_data_make_no_event_wherever_they_stand(keep_alive: str) -> None:
    body = f"{keep_alive}\n\ndata: a\n{keep_alive}\n\n{keep_alive}\n\n: end\n\ndata: b\n\n"
    assert [event.data for event in decode(body.encode())] == [b"a", b"b"]


@pytest.mark.parametrize("line", [b'{"choices": []}', b'dat: {"choices": []}', b'data : {"choices": []}'])
def test_an_object_without_its_field_name_is_not_passed_over(line: bytes) -> None:
    assert [event.data for event in decode(b"data: a\n\n" + line + b"\n\ndata: b\n\n")] == [b"a", line, b"b"]


@pytest.mark.parametrize("line", [b": {}", b"id: {}", b"retry: {}", b"event: {}"])
def test_an_object_in_another_field_or_a_comment_is_no_event(line: bytes) -> None:
    assert decode(line + b"\n\n") == []


def test_an_event_without_an_empty_line_after_it_is_not_lost() -> None:
    assert decode(b"data: a\n\ndata: b") == [ServerSentEvent("", b"a"), ServerSentEvent("", b"b", is_whole=False)]


def test_lines_of_data_are_joined_and_a_byte_order_mark_is_left_out() -> None:
    assert decode(b"\xef\xbb\xbfevent: x\ndata: a\ndata: b\n\n") == [ServerSentEvent("x", b"a\nb")]


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"data: " + b"x" * 65_000 + b"\n"], ids=["one line", "many lines"])
def test_an_event_without_end_is_given_up(piece: bytes) -> None:
    decoder = EventDecoder()
    with pytest.raises(ValueError, match=pattern_of("ValueError: an event without an end")):
        for _ in range(2 * MAX_EVENT_BYTES // len(piece)):
            list(decoder.feed(piece))
