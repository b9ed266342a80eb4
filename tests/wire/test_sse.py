"""Server-sent events: what is encoded is decoded, in whatever pieces it arrives."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.wire.sse import encode_event
from tests.error_texts.texts import pattern_of
from tests.support.sse import decode_events

one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1)
data = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))


def decode(stream: bytes, cuts: Sequence[int] = ()) -> list[tuple[str, str, str]]:
    """Return data, type and id of the events of a stream that arrives in pieces."""
    at = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [(event.data, event.event, event.id) for event in decode_events(stream[start:end] for start, end in pairwise(at))]


@given(st.lists(st.tuples(data, st.none() | one_line, one_line)), st.lists(st.integers(0, 10**6), max_size=20))
def test_any_chunking_of_a_stream_decodes_to_the_events_encoded(
    events: list[tuple[str, str | None, str]], cuts: list[int]
) -> None:
    stream = b"".join(encode_event(text.encode(), event=event, event_id=event_id) for text, event, event_id in events)
    assert decode(stream, cuts) == [(text, event or "message", event_id) for text, event, event_id in events]


@given(st.lists(st.sampled_from([b"data", b"id", b"event", b":", b" ", b"x", b"\r", b"\n", b"\r\n", b"\xc3\xa9", b"\xff"])))
def test_any_bytes_decode_alike_whole_and_byte_by_byte(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    assert decode(stream) == decode(stream, range(len(stream)))


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [("a", "message", "")]),
        (b"data:a\r\rdata: b\r\n\r\n", [("a", "message", ""), ("b", "message", "")]),
        (b"data:  a\ndata\ndata:b\n\n", [(" a\n\nb", "message", "")]),
        (b": comment\n\ndata: a\n\n", [("a", "message", "")]),
        (b"event: e\ndata: a\n\ndata: b\n\n", [("a", "e", ""), ("b", "message", "")]),
        (b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [("a", "message", "1"), ("b", "message", "1"), ("c", "message", "")]),
        (b"id: 1\nid: 2\0\ndata: a\n\n", [("a", "message", "1")]),
        (b"retry: 5\ndatum: x\ndata: a\n\n", [("a", "message", "")]),
        (b"data\n\n", [("", "message", "")]),
        ("data: \u2028\x85\x0c\n\n".encode(), [("\u2028\x85\x0c", "message", "")]),
        (b"data: \xff\n\n", [("\ufffd", "message", "")]),
        (b"data: a\n\ndata: unfinished\n", [("a", "message", "")]),
    ],
)
def test_the_decoder_of_the_command_line_follows_the_specification(stream: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert decode(stream) == expected


@pytest.mark.parametrize(("text", "event", "event_id"), [(b"a\rb", None, None), (b"a", "x\ny", None), (b"a", None, "1\0")])
def test_what_would_change_an_event_is_not_encoded(text: bytes, event: str | None, event_id: str | None) -> None:
    with pytest.raises(ValueError, match=pattern_of("ValueError: an SSE event with a CR")):
        encode_event(text, event=event, event_id=event_id)
