"""Untrusted schemas and answers: what fits, what is refused as whose fault, and what is given up."""

import json
import socket
from collections.abc import AsyncIterator

import pytest

from a2a_gateway.agents.schema_checker import SchemaChecker
from a2a_gateway.errors import RequestError, UnsupportedError
from tests.agents.schemas import doubling, unevaluated

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def checker() -> AsyncIterator[SchemaChecker]:
    async with SchemaChecker() as opened:
        yield opened


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "wish"},
        {"pattern": "("},
        {"items": {"pattern": "((a{1000}){1000}){1000}"}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#missing"},
        {"$ref": "https://x.org/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"allOf": [{}], "$ref": "#/allOf/first"},
        {"title": "no schema", "$ref": "#/title"},
        {"default": {"type": 5}, "$ref": "#/default"},
        {"$ref": "#"},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"$defs": {"a": {"then": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{}, {"$ref": "#/$defs/a"}]}}},
        {"$defs": {"a": {"dependentSchemas": {"x": {"$ref": "#/$defs/a"}}}}},
        {"$schema": 5},
        {"$schema": "http://[::1"},
    ],
    ids=json.dumps,
)
async def test_a_schema_that_could_not_check_an_answer_is_the_caller_s_error(
    schema: dict[str, object], checker: SchemaChecker
) -> None:
    with pytest.raises(RequestError) as caught:
        await checker.check_schema(schema, "ada")
    assert (caught.value.code, caught.value.param) == ("invalid_request_error", "response_format.json_schema.schema")


_HUGE = {"properties": {f"p{n}": {"type": "object", "enum": [1, 2, 3, {"a": n}]} for n in range(5_000)}}
_DIALECT_WITHIN = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"}
_TREE = {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#"}}}}


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (_HUGE, '{"p7": {"a": 7}}'),
        ({"uniqueItems": True}, json.dumps([{"a": n} for n in range(6_000)])),
        ({"enum": [{"a": n} for n in range(20_000)]}, '{"a": 19999}'),
        ({"patternProperties": {"^(a|a)*$": True}}, json.dumps({"a" * 60 + "!": 1})),
        ({"items": {"pattern": "^(a|a)*$"}}, json.dumps(["a" * 60])),
        ({"properties": {"a": _DIALECT_WITHIN}}, '{"a": 1}'),
        (_TREE, '{"below": [{"below": []}]}'),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}}, "{}"),
        ({"$schema": "https://example.org/a-dialect-of-mine", "type": "object"}, "{}"),
        ({"$id": "https://example.org/s", "$defs": {"a": {}}, "$ref": "https://example.org/s#/$defs/a"}, "{}"),
    ],
    ids=["295 kB", "unique", "enum", "names", "pattern", "dialect within", "tree", "draft 7", "own dialect", "own address"],
)
async def test_what_is_large_and_lawful_is_checked(schema: dict[str, object], answer: str, checker: SchemaChecker) -> None:
    await checker.check_schema(schema, "ada")
    await checker.check_answer(schema, answer, "ada")


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (unevaluated(), '{"a": 1, "b": 1}'),
        (doubling(), "{}"),
        ({"items": {"pattern": r"^(a|a)*\1$"}}, json.dumps(["a" * 60 + "!"])),
        ({"patternProperties": {r"^(a|a)*\1$": {"type": "string"}}}, json.dumps({"a" * 60 + "!": 1})),
        ({}, f"[{'[{}],' * 2_000_000}1]"),
    ],
    ids=["unevaluated", "doubling", "backtracking", "backtracking in a name", "memory"],
)
async def test_work_without_end_is_given_up_as_the_caller_s_error(
    schema: dict[str, object], answer: str, checker: SchemaChecker
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        await checker.check_answer(schema, answer, "ada")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format.json_schema.schema")


async def test_nothing_that_a_schema_names_is_fetched(checker: SchemaChecker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(RequestError):
            await checker.check_schema({"$defs": {"a": {"$ref": url}}, "properties": {"x": {"$ref": "#/$defs/a"}}}, "ada")
        with pytest.raises(BlockingIOError):
            server.accept()
