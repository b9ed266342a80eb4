"""Which JSON Schemas may bind an answer: found out before any money is spent, and without doing what they ask for."""

import json
import socket

import pytest

from a2a_gateway.errors import RequestError
from a2a_gateway.wire.openai_request import parse_chat_request
from tests.wire.samples import body, schema_format


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "wish"},
        {"pattern": "("},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#missing"},
        {"$ref": "https://x.org/schema.json"},
        {"allOf": [{}], "$ref": "#/allOf/first"},
        {"title": "no schema", "$ref": "#/title"},
        {"default": {"type": 5}, "$ref": "#/default"},
        {"$ref": "#"},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
    ],
    ids=json.dumps,
)
def test_a_schema_that_could_not_check_an_answer_is_refused_before_the_run(schema: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(body(response_format=schema_format(schema)), {})
    assert caught.value.param == "response_format.json_schema.schema"


_DOUBLING = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": True}
_NESTED: dict[str, object] = {"type": "string"}
for _ in range(90):
    _NESTED = {"properties": {"a": _NESTED, **{f"b{n}": {} for n in range(20)}}}


def test_a_schema_that_refers_to_itself_very_often_is_read_all_the_same() -> None:
    schema = {"$defs": _DOUBLING, "$ref": "#/$defs/d0"}
    assert parse_chat_request(body(response_format=schema_format(schema)), {}).answer_format is not None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {f"p{n}": {"type": "string"} for n in range(16_000)}}, "holds 32002 values, at most 30000"),
        ({"type": [{"a": n} for n in range(5_000)]}, "holds a list of 5000 items; 200 are the most"),
        ({**_NESTED, "$defs": {f"r{n}": {"$ref": "#" + "/properties/a" * n} for n in range(1, 90)}}, "refers too often"),
        ({"$defs": {"a": {"then": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{}, {"$ref": "#/$defs/a"}]}}}, "without end"),
        ({"$defs": {"a": {"dependentSchemas": {"x": {"$ref": "#/$defs/a"}}}}}, "without end"),
    ],
)
def test_a_schema_that_asks_for_too_much_work_is_refused(schema: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        parse_chat_request(body(response_format=schema_format(schema)), {})
    assert caught.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("dialect", [5, True, [], {}, "http://[::1"])
def test_a_dialect_that_cannot_be_one_is_refused(dialect: object) -> None:
    with pytest.raises(RequestError, match=r"names a \$schema that is no address") as caught:
        parse_chat_request(body(response_format=schema_format({"$schema": dialect, "type": "object"})), {})
    assert caught.value.param == "response_format.json_schema.schema"


def test_nothing_that_a_schema_names_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        schema = {"$defs": {"a": {"$ref": url}}, "properties": {"x": {"$ref": "#/$defs/a"}}}
        with pytest.raises(RequestError):
            parse_chat_request(body(response_format=schema_format(schema)), {})
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_schema_with_an_infinite_number_is_refused() -> None:
    sent = body(response_format=schema_format({"maximum": 1})).replace(b'"maximum": 1', b'"maximum": 1e999')
    with pytest.raises(RequestError) as caught:
        parse_chat_request(sent, {})
    assert caught.value.param == "response_format.json_schema.schema"
