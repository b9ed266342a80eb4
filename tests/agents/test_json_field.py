"""The incremental reader of one JSON string."""

import json
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.agents.json_field import JsonStringField

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DECOYS = st.dictionaries(
    st.sampled_from(["summary", "security_risk", "messages", "n"]),
    st.one_of(TEXT, st.integers(), st.none(), st.lists(st.dictionaries(st.just("message"), TEXT, max_size=1), max_size=2)),
    max_size=3,
)


def read(document: str, cuts: list[int]) -> str:
    field = JsonStringField("message")
    bounds = sorted({0, len(document), *(cut % (len(document) + 1) for cut in cuts)})
    return "".join(field.feed(document[start:end]) for start, end in pairwise(bounds))


@given(message=TEXT, before=DECOYS, after=DECOYS, escaped=st.booleans(), cuts=st.lists(st.integers(0, 500), max_size=30))
def test_any_cut_of_any_object_yields_the_member_s_value(
    message: str, before: dict[str, object], after: dict[str, object], escaped: bool, cuts: list[int]
) -> None:
    later = {name: value for name, value in after.items() if name not in before}
    document = json.dumps({**before, "message": message, **later}, ensure_ascii=escaped)
    assert read(document, cuts) == message


@given(codes=st.lists(st.integers(0xD800, 0xDFFF) | st.integers(0x20, 0x7E), max_size=8), cuts=st.lists(st.integers(0, 99)))
def test_half_a_surrogate_pair_becomes_the_replacement_character(codes: list[int], cuts: list[int]) -> None:
    document = '{"message": "' + "".join(f"\\u{code:04x}" for code in codes) + '"}'
    expected = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", json.loads(document)["message"])
    assert read(document, cuts) == expected


@given(document=st.text(max_size=60), cuts=st.lists(st.integers(0, 60)))
def test_what_is_not_json_is_read_without_failing_and_alike_however_it_is_cut(document: str, cuts: list[int]) -> None:
    assert read(document, cuts) == read(document, [])
