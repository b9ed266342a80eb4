"""Parse `response_format` into an `AnswerFormat`.

A schema is untrusted, and a small one can ask for any amount of work. So only its size is looked at here; whether it is valid is
checked by `agents.schema_checker`, before any money is spent.
"""

import json
from typing import Final, assert_never

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.messages import AnswerFormat
from a2a_gateway.wire.chat.body import FormatBody, JsonObjectFormatBody, JsonSchemaFormatBody, TextFormatBody

_PARAM: Final = "response_format.json_schema.schema"
_MAX_CHARS: Final = 1_000_000


def parse_answer_format(body: FormatBody | None) -> AnswerFormat | None:
    """Parse a `response_format`; None if any text is a valid answer.

    Raises:
        RequestError: the schema is too large, or holds a number that JSON does not have.
    """
    match body:
        case None | TextFormatBody():
            return None
        case JsonObjectFormatBody():
            return AnswerFormat("json_object")
        case JsonSchemaFormatBody(json_schema=wanted):
            if fault := _fault(wanted.schema_):
                raise RequestError(f"{_PARAM}: {fault}.", param=_PARAM)
            return AnswerFormat("json_schema", wanted.name, wanted.schema_)
        case _:
            assert_never(body)


def _fault(schema: dict[str, object]) -> str | None:
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError:
        return "holds a number that JSON does not have"
    return f"has {size} characters, at most {_MAX_CHARS} are allowed" if size > _MAX_CHARS else None
