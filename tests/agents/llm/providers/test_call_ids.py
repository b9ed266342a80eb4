"""Tool calls are told apart by whatever their pieces have."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.agents.llm.providers.call_ids import CallIds, StreamedCalls

type Piece = dict[str, Any]


def piece(name: str | None = None, arguments: Any = "", **more: Any) -> Piece:
    return {"function": {"name": name, "arguments": arguments}, **more}


def joined(*chunks: list[Piece], taken: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Put the pieces together by their index, as LiteLLM does; fails if two calls share an id."""
    calls = StreamedCalls(CallIds(taken))
    made: dict[int, tuple[str, str, str]] = {}
    for chunk in chunks:
        for found in calls.identify(chunk):
            name, arguments, identity = made.get(found["index"], ("", "", found["id"]))
            function = found["function"]
            made[found["index"]] = (function.get("name") or name, arguments + function["arguments"], identity)
            assert found["id"] == identity
    identities = [identity for _, _, identity in made.values()]
    assert all(identities)
    assert len({*identities, *taken}) == len(identities) + len(taken)
    return [(name, arguments) for name, arguments, _ in made.values()]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([[piece("f", "{", index=0, id="a")], [piece(None, "}", index=0)]], id="as OpenAI"),
        pytest.param([[piece("f", "{", index=0, id="a")], [piece(None, "}", index=0, id="b")]], id="an id for each piece"),
        pytest.param([[piece("f", "{", index=0, id="a")], [piece("f", "}", index=0, id="a")]], id="all in each piece"),
        pytest.param([[piece("f", "", index=0)], [piece("f", "{}", index=0)]], id="the name in each piece"),
        pytest.param([[piece(None, "{", index=0)], [piece("f", "}", index=0, id="a")]], id="arguments before the name"),
        pytest.param([[piece("f", "{", id="a")], [piece(None, "}")]], id="no index"),
        pytest.param([[piece("f", {})]], id="arguments as an object"),
        pytest.param([[piece("f", "{}", index=0, id="a")], [piece("f", "{}", index=0, id="a")]], id="sent twice"),
        pytest.param([[piece("f", "{}", index=0)], [piece("f", "", index=0)]], id="the name at the end"),
        pytest.param([[piece("f", None, index=0)], [{"index": 0}], [piece("", "{}", index=0)]], id="nulls and no function"),
    ],
)
def test_pieces_of_one_call_stay_one_call(chunks: list[list[Piece]]) -> None:
    assert joined(*chunks) == [("f", "{}")]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([[piece("f", "{}", index=0, id="a"), piece("g", "[]", index=1, id="b")]], id="as OpenAI"),
        pytest.param([[piece("f", "{}", index=1), piece("g", "[]", index=0)]], id="in another order"),
        pytest.param(
            [[piece("f", "{}", index=0, id="a")], [piece("g", "", index=0, id="b")], [piece("", "[]", index=0)]], id="later"
        ),
        pytest.param(
            [[piece("f", "{", id="a")], [piece("g", "[", id="b")], [piece("", "}", id="a")], [piece("", "]", id="b")]], id="by id"
        ),
        pytest.param([[piece("f", "{}", id="a")], [piece("g", "[]", id="a")]], id="one id"),
        pytest.param([[piece("f", "{}")], [piece("g", "[]")]], id="no index and no id"),
        pytest.param([[piece("f", "{}", index=0), piece("g", "[]", index=0)]], id="one index in one chunk"),
        pytest.param([[piece("f", "{}", index=None, id="")], [piece("g", "[]", index=None, id=None)]], id="nulls"),
        pytest.param([[piece("f", "{}", index=4, id="a")], [piece("g", "[]", index=9, id="a")]], id="one id and two indexes"),
        pytest.param([[piece("f", "{}", index=0, id="t")], [piece("g", "[]", index=1, id="t")]], id="an id of an earlier turn"),
    ],
)
def test_pieces_of_two_calls_stay_two_calls(chunks: list[list[Piece]]) -> None:
    assert joined(*chunks, taken=("t",)) == [("f", "{}"), ("g", "[]")]


@given(
    st.lists(st.tuples(st.sampled_from("fg"), st.dictionaries(st.text(), st.integers()).map(json.dumps)), max_size=5), st.data()
)
def test_well_formed_streams_are_put_together_however_they_are_cut(calls: list[tuple[str, str]], data: st.DataObject) -> None:
    chunks = []
    for index, (name, arguments) in enumerate(calls):
        cut = data.draw(st.integers(0, len(arguments)))
        chunks += [[piece(name, "", index=index, id=f"id-{index}")]]
        chunks += [[piece(None, part, index=index)] for part in (arguments[:cut], arguments[cut:])]
    assert joined(*chunks) == calls
