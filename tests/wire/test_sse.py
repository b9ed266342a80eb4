"""Server-sent events: what is encoded is decoded, in whatever pieces it arrives."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.wire.sse import encode_event
from tests.error_texts.texts import pattern_of
from tests.support.sse import decode_events

one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1)
data = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))


@given(st.lists(st.tuples(data, st.none() | one_line, one_line)), st.lists(st.integers(0, 10**6), max_size=20))
def test_any_chunking_of_a_stream_decodes_to_the_events_encoded(
    events: list[tuple[str, str | None, str]], cuts: list[int]
) -> None:
    stream = b"".join(encode_event(text.encode(), event=event, event_id=event_id) for text, event, event_id in events)
    at = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    decoded = [(found.data, found.event, found.id) for found in decode_events(stream[a:b] for a, b in pairwise(at))]
    assert decoded == [(text, event or "message", event_id) for text, event, event_id in events]


@pytest.mark.parametrize(("text", "event", "event_id"), [(b"a\rb", None, None), (b"a", "x\ny", None), (b"a", None, "1\0")])
def test_what_would_change_an_event_is_not_encoded(text: bytes, event: str | None, event_id: str | None) -> None:
    with pytest.raises(ValueError, match=pattern_of("ValueError: an SSE event with a CR")):
        encode_event(text, event=event, event_id=event_id)
