"""Describe responses for the OpenAPI document, beside their types: examples, and the errors with their codes.

Nothing here runs while a request is served.
"""

from collections.abc import Iterable
from typing import Any, Final

from a2a_gateway.wire import examples
from a2a_gateway.wire.schemas import ErrorBody
from delegate_tool.protocol.codes import ERROR_CODES

type Responses = dict[int | str, dict[str, Any]]
"""Responses by status, as FastAPI's `responses` takes them."""


_ERROR_CONTENT: Final = {
    "application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}, "example": examples.ERROR}
}
OTHER_ERROR: Final = {"description": "Any other error.", "content": _ERROR_CONTENT}


def json_content(example: object) -> dict[str, Any]:
    """Describe a JSON body; FastAPI adds the schema."""
    return {"application/json": {"example": example}}


def event_stream_content(example: str) -> dict[str, Any]:
    """Describe a body of Server-Sent Events."""
    return {"text/event-stream": {"schema": {"type": "string"}, "example": example}}


def success(description: str, example: object) -> Responses:
    """Describe the JSON response of a successful request."""
    return {200: {"description": description, "content": json_content(example)}}


_STATUSES: Final = frozenset(row.status for row in ERROR_CODES.values())


def error_responses(statuses: Iterable[int] = _STATUSES) -> Responses:
    """Describe the errors of a route in OpenAI's shape, each with the codes that have its status.

    Args:
        statuses: those that the route can respond with; by default all.
    """
    # Only `default` names the type: FastAPI would build a validator for each status of each route, which takes long at the start.
    described: Responses = {"default": {**OTHER_ERROR, "model": ErrorBody}}
    for status in sorted(statuses):
        codes = [f"`{code}`" for code, row in ERROR_CODES.items() if row.status == status]
        described[status] = {"description": ", ".join(codes), "content": _ERROR_CONTENT}
    return described


QUERY_ERRORS: Final = (400, 401, 403, 404, 429, 500, 503)
"""Statuses of routes that only read."""
