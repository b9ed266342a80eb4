"""The form that a script demands of an answer: a pydantic model class, a JSON schema, or OpenAI's own `response_format`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, PydanticUserError, ValidationError
from pydantic_core import from_json

from delegate_tool.protocol.codes import RESPONSE_FORMAT_VIOLATED
from delegate_tool.protocol.context import ContextError
from delegate_tool.protocol.result import DelegationResult, DelegationStatus

type ResponseFormat = type[BaseModel] | Mapping[str, Any]

_WIRE_TYPES: Final = ("text", "json_object", "json_schema")
"""Types of OpenAI's own format. None of them is a type of JSON schema, which may also be a list."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_FAULTS: Final = 5


def render_response_format(wanted: object) -> dict[str, Any]:
    """Render the form as OpenAI's `response_format`.

    Raises:
        ContextError: it is neither a mapping nor a model class, or the class has no JSON schema.
    """
    if isinstance(wanted, Mapping):
        return dict(wanted) if wanted.get("type") in _WIRE_TYPES else _json_schema("answer", wanted)
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        try:
            return _json_schema(_NO_NAME.sub("_", wanted.__name__)[:64], wanted.model_json_schema())
        except PydanticUserError as error:
            raise ContextError("response_format", f"response_format has no JSON schema: {error.message}") from None
    raise ContextError("response_format", "response_format must be a pydantic model class, a JSON schema or OpenAI's own object")


def with_parsed(result: DelegationResult, wanted: ResponseFormat) -> DelegationResult:
    """Add the parsed answer. An answer that does not have the form is a failure, with the answer kept.

    A gateway has checked the answer against the schema. Other endpoints may ignore the form.
    """
    if not result.ok:
        return result
    try:
        return replace(result, parsed=_parse(wanted, result.answer))
    except ValueError as error:
        return replace(
            result,
            status=DelegationStatus.FAILED,
            error_code=RESPONSE_FORMAT_VIOLATED,
            error_message=f"The answer does not have the form that response_format demands: {_faults(error)}.",
        )


def _json_schema(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(schema)}}


def _parse(wanted: ResponseFormat, answer: str) -> object:
    if not isinstance(wanted, Mapping):
        return wanted.model_validate_json(answer)
    return answer if wanted.get("type") == "text" else from_json(answer)


def _faults(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"]))) for fault in faults[:_MAX_FAULTS])
