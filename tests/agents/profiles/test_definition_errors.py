"""Where a value stands in a document, for documents of any shape."""

import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_gateway.agents.profiles.definition_errors import line_of

names = st.text("abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=8).filter(lambda name: name.strip("-"))
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=4), max_leaves=8)


@settings(max_examples=30, deadline=None)  # a machine under load is not a fault
@given(st.dictionaries(names, trees, min_size=1, max_size=4))
def test_every_key_of_a_document_is_found_in_its_own_line(tree: dict[str, object]) -> None:
    for text in (json.dumps(tree, indent=2), yaml.safe_dump(tree, default_flow_style=False)):
        lines = text.splitlines()
        places = list(paths(tree))
        found = [line_of(text, place) for place in places]

        assert [lines[line - 1].split(":")[0].strip(" \"'") for line in found if line] == [place[-1] for place in places]
        assert len(set(found)) == len(places)  # a key that occurs twice is found twice


@settings(deadline=None)
@given(st.text())
def test_whatever_a_document_holds_it_can_be_searched(text: str) -> None:
    assert line_of(text, ()) is None
    assert line_of(text, ("no", "such", 5, "key")) is None or "no" in text


def paths(tree: object, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(tree, dict):
        return []
    return [path for name, inner in tree.items() for path in ((*prefix, name), *paths(inner, (*prefix, name)))]
