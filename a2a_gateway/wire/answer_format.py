"""`response_format` to an `AnswerFormat` whose schema will work when the answer comes: checked before any money is spent.

A schema is a stranger's, and a small one can ask for any amount of work. So none is evaluated here: what can be said about one is
found by walking over it, and its size is bounded.
"""

import json
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
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
_SAME_PART: Final = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "extends", "disallow", "type"})
"""Keywords that hold schemas for the same part of an answer: one, or a list of them."""
_SAME_PART_BY_NAME: Final = frozenset({"dependentSchemas", "dependencies"})
_MOST_VALUES: Final = 30_000
_MOST_MIXED: Final = 200
"""Of a longer list `jsonschema` compares each item with each, unless it can sort them."""


def parse_answer_format(body: FormatBody | None) -> AnswerFormat | None:
    """Turn a `response_format` into what the answer must be; None where any text will do.

    Raises:
        RequestError: the schema is invalid or too large, refers to what it does not hold, or never ends.
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
        if fault := _dialect_fault(schema) or _size_fault(schema):
            return fault
        _check_dialect(schema, schema)
        return _reference_fault(schema)
    except SchemaError as error:
        return f"is not a valid JSON Schema: at {error.json_path[:200]}, {error.message[:200]}"
    except (RecursionError, CycleError):
        return "is nested too deeply, or refers to itself without end"


def _dialect_fault(schema: dict[str, object]) -> str | None:
    try:
        validator_for(schema, default=Draft202012Validator)
    except (AttributeError, TypeError, ValueError):  # what the library makes of a number, a list, and half an address
        return "names a $schema that is no address"
    return None


def _size_fault(schema: object) -> str | None:
    if (values := sum(1 for _ in _walk(schema))) > _MOST_VALUES:
        return f"holds {values} values, at most {_MOST_VALUES} are allowed"
    for node in _walk(schema):
        if isinstance(node, list) and len(node) > _MOST_MIXED and not _can_be_sorted(node):
            return f"holds a list of {len(node)} items; {_MOST_MIXED} are the most if they are not all text, or all numbers"
    return None


def _can_be_sorted(items: list[object]) -> bool:
    return all(isinstance(item, str) for item in items) or all(isinstance(item, int | float) for item in items)


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
    targets: dict[str, dict[str, object] | bool] = {}
    for reference in sorted({reference for node in _walk(schema) for reference in _references(node)}):
        fault = f"reference {reference[:100]!r} does not lead to a schema within the schema"
        try:
            target = resolver.lookup(reference).contents if reference.startswith("#") else None
        except (Unresolvable, ValueError):  # a ValueError comes from a list indexed with text
            return fault
        if not isinstance(target, dict | bool):
            return fault
        targets[reference] = target
    # A target may stand where the check of the whole sees no schema; each is checked once, however many names it has.
    distinct = {id(target): target for target in targets.values() if isinstance(target, dict)}
    if sum(1 for target in distinct.values() for _ in _walk(target)) > 2 * _MOST_VALUES:
        return "refers too often to large parts of itself"
    for target in distinct.values():
        _check_dialect(target, schema)
    _refuse_circles(schema, targets)
    return None


def _refuse_circles(schema: object, targets: Mapping[str, dict[str, object] | bool]) -> None:
    """Look at where each schema sends the same part of an answer.

    Raises:
        CycleError: back to itself.
    """
    nodes = [node for node in _walk(schema) if isinstance(node, dict)]
    TopologicalSorter({id(node): {id(follows) for follows in _followed(node, targets)} for node in nodes}).prepare()


def _followed(node: dict[str, object], targets: Mapping[str, dict[str, object] | bool]) -> Iterator[object]:
    """The schemas that a schema applies to the part of an answer that it is applied to itself."""
    yield from (targets[reference] for reference in _references(node))
    for keyword in _SAME_PART & node.keys():
        value = node[keyword]
        yield from value if isinstance(value, list) else (value,)
    for keyword in _SAME_PART_BY_NAME & node.keys():
        if isinstance(by_name := node[keyword], dict):
            yield from by_name.values()


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in _REFERENCES and isinstance(value, str))


def _walk(value: object) -> Iterator[object]:
    """Every value of a JSON document, itself included."""
    waiting = [value]
    while waiting:
        yield (node := waiting.pop())
        match node:
            case dict():
                waiting.extend(node.values())
            case list():
                waiting.extend(node)
            case _:
                pass
