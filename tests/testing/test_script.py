"""Scripts as text: what is written into a message is found in it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_gateway.testing.replies import words
from a2a_gateway.testing.script import MARKER, Gate, Script, ScriptedCall, Step, Usage, find_script, marker

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
counts = st.integers(0, 10**6)
steps = st.builds(
    Step,
    content=st.none() | texts,
    reasoning=texts,
    tool_calls=st.lists(st.builds(ScriptedCall, texts, st.dictionaries(texts, json_values, max_size=3) | texts), max_size=2).map(
        tuple
    ),
    finish=st.none() | texts,
    usage=st.sampled_from(["estimated", "omitted"]) | st.builds(Usage, counts, counts, counts, counts),
    status=st.integers(200, 599),
    headers=st.dictionaries(texts, texts, max_size=2),
    gate=st.none() | texts | st.builds(Gate, texts, st.none() | counts, counts),
    ttft_ms=st.none() | st.floats(0, 1e6),
    drop_after=st.none() | counts,
)
scripts = st.builds(Script, st.lists(steps, min_size=1, max_size=3).map(tuple), ttft_ms=st.none() | st.floats(0, 1e6))
around = texts.filter(lambda text: MARKER not in text)


@settings(max_examples=50, deadline=None)
@given(scripts, around, around)
def test_a_script_is_found_in_any_text_as_it_was_written(script: Script, before: str, after: str) -> None:
    assert find_script(before + marker(script) + after) == script


@settings(max_examples=30, deadline=None)
@given(scripts, scripts, around)
def test_of_two_markers_the_last_counts_and_a_nested_one_does_not(first: Script, second: Script, between: str) -> None:
    carrier = Script((Step(content=marker(first)), *second.steps))
    assert find_script(marker(first) + between + marker(carrier)) == carrier


@given(texts)
def test_streamed_words_join_to_the_text(text: str) -> None:
    assert "".join(words(text)) == text


def test_a_text_without_a_marker_has_no_script() -> None:
    assert find_script("[[llm]] is not a marker, nor is llm {}") is None
