"""Server-sent events: what is encoded is decoded, in whatever pieces it arrives."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.wire.sse import SseDecoder, SseEvent, encode_event

one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1)
data = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))


def decode(stream: bytes, cuts: list[int] | None = None) -> list[SseEvent]:
    decoder = SseDecoder()
    at = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    return [event for start, end in pairwise(at) for event in decoder.feed(stream[start:end])]


@given(st.lists(st.tuples(data, st.none() | one_line, one_line)), st.lists(st.integers(0, 10**6), max_size=20))
def test_any_chunking_of_a_stream_decodes_to_the_events_encoded(
    events: list[tuple[str, str | None, str]], cuts: list[int]
) -> None:
    stream = b"".join(encode_event(text.encode(), event=event, event_id=event_id) for text, event, event_id in events)
    assert decode(stream, cuts) == [SseEvent(text, event or "message", event_id) for text, event, event_id in events]


@given(st.lists(st.sampled_from([b"data", b"id", b"event", b":", b" ", b"x", b"\r", b"\n", b"\r\n", b"\xc3\xa9", b"\xff"])))
def test_any_bytes_decode_alike_whole_and_byte_by_byte(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    assert decode(stream) == decode(stream, list(range(len(stream))))


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [SseEvent("a")]),
        (b"data:a\r\rdata: b\r\n\r\n", [SseEvent("a"), SseEvent("b")]),
        (b"data:  a\ndata\ndata:b\n\n", [SseEvent(" a\n\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent("a")]),
        (b": comment\n\ndata: a\n\n", [SseEvent("a")]),
        (b"event: e\n\ndata: a\n\n", [SseEvent("a")]),
        (b"event: e\ndata: a\n\ndata: b\n\n", [SseEvent("a", "e"), SseEvent("b")]),
        (b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [SseEvent("a", id="1"), SseEvent("b", id="1"), SseEvent("c")]),
        (b"id: 1\nid: 2\0\ndata: a\n\n", [SseEvent("a", id="1")]),
        (b"retry: 5\ndatum: x\ndata: a\n\n", [SseEvent("a")]),
        (b"data\n\n", [SseEvent("")]),
        ("data: \u2028\x85\x0c\n\n".encode(), [SseEvent("\u2028\x85\x0c")]),
        (b"data: \xff\n\n", [SseEvent("\ufffd")]),
        (b"data: a\n\ndata: unfinished\n", [SseEvent("a")]),
    ],
)
def test_streams_are_read_as_the_specification_says(stream: bytes, expected: list[SseEvent]) -> None:
    assert decode(stream) == expected


@pytest.mark.parametrize(("text", "event", "event_id"), [(b"a\rb", None, None), (b"a", "x\ny", None), (b"a", None, "1\0")])
def test_what_would_change_an_event_is_not_encoded(text: bytes, event: str | None, event_id: str | None) -> None:
    with pytest.raises(ValueError):
        encode_event(text, event=event, event_id=event_id)
