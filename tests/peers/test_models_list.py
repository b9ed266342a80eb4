"""The models that a peer lists are read in all the forms in which servers write them."""

import pytest

from a2a_gateway.peers.models_list import parse_models
from tests.error_texts.texts import pattern_of


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ({"object": "list", "data": [{"id": "a", "object": "model", "created": 1, "owned_by": "x"}]}, ["a"]),
        ({"data": [{"id": "a", "created": 1.5}, {"id": "b", "created": None}, {"id": "c", "created": "now"}]}, ["a", "b", "c"]),
        ({"data": [{"id": 7}, {"id": 1.5}, "c"]}, ["7", "1.5", "c"]),
        ({"data": [{"name": "no id"}, None, {"id": None}, {"id": True}, {"id": "a"}]}, ["a"]),
        ([{"id": "a"}], ["a"]),
        ({"data": []}, []),
    ],
)
def test_models_are_read_whatever_stands_around_them(listed: object, ids: list[str]) -> None:
    assert [model.id for model in parse_models(listed)] == ids


@pytest.mark.parametrize("listed", [None, 5, "text", {}, {"data": None}, {"data": {"id": "a"}}, {"data": [{}, 5]}])
def test_what_is_no_list_of_models_is_an_error(listed: object) -> None:
    with pytest.raises(ValueError, match=pattern_of("ValueError: a list of models that is none")):
        parse_models(listed)


def test_what_cannot_be_read_beside_an_id_is_left_out() -> None:
    odd, priced, negative = parse_models(
        [
            {"id": "a", "description": 5, "context_length": "long", "pricing": "cheap"},
            {"id": "b", "context_length": 8192, "pricing": {"prompt": "0.000001", "completion": 0.5}},
            {"id": "c", "pricing": {"prompt": "-1", "completion": "-1"}},
        ]
    )
    assert (odd.description, odd.context_length, odd.pricing, negative.pricing) == (None, None, None, None)
    assert priced.context_length == 8192
    assert priced.pricing is not None
    assert (str(priced.pricing.prompt), str(priced.pricing.completion)) == ("0.000001", "0.5")
