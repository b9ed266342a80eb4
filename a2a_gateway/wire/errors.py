"""Errors as responses: HTTP status, headers, and OpenAI's error object. The status of each code is in `protocol.codes`."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from a2a_gateway.errors import GatewayError
from a2a_gateway.wire.json_bytes import encode_json
from a2a_gateway.wire.presenter import WireResponse
from delegate_tool.protocol.codes import ERROR_CODES
from delegate_tool.protocol.fields import Header

PARTIAL_BYTES: Final = 8 * 1024
_TYPE_BY_STATUS: Final[Mapping[int, str]] = {402: "insufficient_quota", 403: "permission_error", 429: "rate_limit_error"}
_RETRY_AFTER_S: Final = 5
_RETRY_AFTER_MAX_S: Final = 60


class ErrorResponse(NamedTuple):
    """An error as a response whose body is not encoded yet."""

    status: int
    headers: dict[str, str]
    body: dict[str, object]


def render_error(error: GatewayError) -> ErrorResponse:
    """Render an error as a whole response. Its headers state whether a retry can help."""
    status = ERROR_CODES[error.code].status
    # OpenAI's SDKs retry 409, 429 and 5xx unless this header forbids it, and a run that is executed again costs money again.
    headers: dict[str, str] = {Header.SHOULD_RETRY: "true" if error.retryable else "false"}
    if status in (429, 503):
        headers["Retry-After"] = str(_retry_after_s(error))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return ErrorResponse(status, headers, {"error": error_object(error)})


def encode_error(error: GatewayError) -> WireResponse:
    """Render an error as a whole response, ready to send."""
    status, headers, body = render_error(error)
    return WireResponse(status, {"content-type": "application/json", **headers}, encode_json(body))


def error_object(error: GatewayError) -> dict[str, object]:
    """Render the value of `error` in a body, or in the last event of a stream."""
    details = dict(error.details)
    if isinstance(partial := details.get("partial"), str):
        details["partial"] = _cut(partial)
    return {
        "message": error.message,
        "type": _type_of(ERROR_CODES[error.code].status),
        "param": error.param,
        "code": error.code,
        "details": details,
    }


def _type_of(status: int) -> str:
    return _TYPE_BY_STATUS.get(status, "server_error" if status >= 500 else "invalid_request_error")


def _retry_after_s(error: GatewayError) -> int:
    seconds = _RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    return max(1, math.ceil(min(seconds, _RETRY_AFTER_MAX_S)))


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:PARTIAL_BYTES].decode(errors="ignore")
