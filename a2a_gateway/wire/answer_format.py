"""`response_format` to an `AnswerFormat` whose schema will work when the answer comes: checked before any money is spent."""

import json
from collections.abc import Iterator
from typing import Any, Final, assert_never

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.messages import AnswerFormat
from a2a_gateway.wire.openai_body import FormatBody, JsonObjectFormatBody, JsonSchemaFormatBody, TextFormatBody

_PARAM: Final = "response_format.json_schema.schema"
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def parse_answer_format(body: FormatBody | None) -> AnswerFormat | None:
    """Turn a `response_format` into what the answer must be; None where any text will do.

    Raises:
        RequestError: the schema is invalid, refers to what it does not hold, or never ends.
    """
    match body:
        case None | TextFormatBody():
            return None
        case JsonObjectFormatBody():
            return AnswerFormat("json_object")
        case JsonSchemaFormatBody(json_schema=wanted):
            if fault := _schema_fault(wanted.schema_):
                raise RequestError(f"{_PARAM}: {fault}.", param=_PARAM)
            return AnswerFormat("json_schema", wanted.name, wanted.schema_)
        case _:
            assert_never(body)


def _schema_fault(schema: dict[str, object]) -> str | None:
    try:
        json.dumps(schema, allow_nan=False)
    except ValueError:
        return "holds a number that JSON does not have"
    try:
        _check_dialect(schema, schema)
        return _reference_fault(schema)
    except SchemaError as error:
        return f"is not a valid JSON Schema: at {error.json_path[:200]}, {error.message[:200]}"
    except RecursionError:
        return "is nested too deeply, or refers to itself without end"


def _check_dialect(schema: Any, root: dict[str, object]) -> None:
    dialect: Any = validator_for(root, default=Draft202012Validator)  # its protocol lacks `format_checker`, its classes have it
    dialect.check_schema(schema, format_checker=dialect.FORMAT_CHECKER)


def _reference_fault(schema: dict[str, object]) -> str | None:
    """Find a reference that leads nowhere, out of the schema, or back to itself without looking at any part of the answer.

    Those out of the schema are not followed: checking an answer must not fetch what a caller names.
    """
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry()  # jsonschema's own default fetches
    resolver = registry.with_resource("", resource).resolver()
    validator = validator_for(schema, default=Draft202012Validator)(schema, registry=registry)
    for reference in sorted(set(_references(schema))):
        try:
            target = resolver.lookup(reference).contents if reference.startswith("#") else None
            if not isinstance(target, dict | bool):
                return f"reference {reference[:100]!r} does not lead to a schema within the schema"
            _check_dialect(target, schema)
            validator.evolve(schema={"$ref": reference}).is_valid({})
        except (Unresolvable, ValueError):  # a ValueError comes from a list indexed with text
            return f"reference {reference[:100]!r} does not lead to a schema within the schema"
    return None


def _references(node: object) -> Iterator[str]:
    match node:
        case dict():
            yield from (value for key, value in node.items() if key in _REFERENCES and isinstance(value, str))
            for value in node.values():
                yield from _references(value)
        case list():
            for item in node:
                yield from _references(item)
        case _:
            pass
