"""What form an answer is to have, and which JSON Schemas may bind it by their size; whether one is valid is tested elsewhere."""

import json

import pytest

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.messages import AnswerFormat
from a2a_gateway.wire.chat.request import parse_chat_request
from tests.wire.samples import body, schema_format

_PARAM = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, None),
        (None, None),
        ({"type": "json_object"}, AnswerFormat("json_object")),
        (
            schema_format({"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}, "list"),
            AnswerFormat(
                "json_schema", "list", {"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
            ),
        ),
    ],
)
def test_an_answer_format_is_read(wanted: object, expected: AnswerFormat | None) -> None:
    assert parse_chat_request(body(response_format=wanted), {}).run.answer_format == expected


@pytest.mark.parametrize("schema", [{"type": "wish"}, {"$ref": "https://x.org/schema.json"}, {"$ref": "#"}], ids=json.dumps)
def test_a_schema_is_read_without_being_looked_into(schema: dict[str, object]) -> None:
    wanted = parse_chat_request(body(response_format=schema_format(schema)), {}).run.answer_format
    assert wanted is not None and wanted.schema == schema


def test_a_schema_that_is_too_large_is_refused() -> None:
    schema = {"properties": {f"p{n}": {"type": "string"} for n in range(40_000)}}
    with pytest.raises(RequestError, match=r"\b1000000\b") as caught:
        parse_chat_request(body(response_format=schema_format(schema)), {})
    assert caught.value.param == _PARAM


def test_a_schema_with_an_infinite_number_is_refused() -> None:
    sent = body(response_format=schema_format({"maximum": 1})).replace(b'"maximum": 1', b'"maximum": 1e999')
    with pytest.raises(RequestError) as caught:
        parse_chat_request(sent, {})
    assert caught.value.param == _PARAM
