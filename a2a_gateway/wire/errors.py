"""Render errors in OpenAI's shape: the one table from code to HTTP status, and the error object.

Above: `server`, and the wires for failures in mid-stream. Below: the error tree. Only what an error states is sent.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from a2a_gateway.errors import GatewayError
from a2a_gateway.wire.json_bytes import encode_json
from a2a_gateway.wire.presenter import WireResponse
from delegate_tool.protocol.fields import Header

STATUS: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "unsupported_parameter": 400,
    "model_unpriced": 400,
    "llm_bad_request": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "invalid_api_key": 401,
    "run_token_revoked": 401,
    "budget_exceeded": 402,
    "admission_refused": 403,
    "delegation_depth_exceeded": 403,
    "delegation_cycle_detected": 403,
    "delegation_runs_exhausted": 403,
    "agent_not_allowed": 403,
    "root_key_from_agent": 403,
    "not_found": 404,
    "run_not_found": 404,
    "conversation_not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conversation_busy": 409,
    "request_too_large": 413,
    "idempotency_key_reused": 422,
    "peer_rejected": 424,
    "delegation_breadth_exceeded": 429,
    "capacity_exceeded": 429,
    "llm_rate_limited": 429,
    "run_cancelled": 499,
    "internal_error": 500,
    "configuration_error": 500,
    "run_failed": 500,
    "agent_error": 500,
    "agent_stuck": 500,
    "max_turns_exceeded": 500,
    "llm_auth_failed": 502,
    "llm_not_found": 502,
    "llm_unavailable": 502,
    "peer_failed": 502,
    "response_format_violated": 502,
    "not_ready": 503,
    "store_unavailable": 503,
    "run_lost": 503,
    "peer_unavailable": 503,
    "deadline_exceeded": 504,
    "gateway_loop_detected": 508,
}
"""The HTTP status of each error code. 499 and 508 are as nginx and RFC 5842 use them."""

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
    """Render an error as a whole response; the headers say whether a retry can help."""
    status = STATUS[error.code]
    # OpenAI's SDKs repeat 409, 429 and 5xx by themselves unless this header forbids it, and a repeated run costs money again.
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
    """Render the object under `error` in a body, or in the last event of a stream."""
    details = dict(error.details)
    if isinstance(partial := details.get("partial"), str):
        details["partial"] = _cut(partial)
    return {
        "message": error.message,
        "type": _type_of(STATUS[error.code]),
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
