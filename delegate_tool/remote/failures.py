"""Translate exceptions of the OpenAI client into `Failure`s with the protocol's error codes.

A message states what happened, and which limit had which value. What to do instead depends on the reader: the remedies for agents
are in `protocol.codes`, those for people in `protocol.remedies`. Knows openai and httpx, but neither OpenHands nor the gateway.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

import httpx
import openai

from delegate_tool.http.unreached import explain_certificate
from delegate_tool.masking import Secrets
from delegate_tool.protocol.codes import (
    ANSWER_TOO_LARGE,
    CONTENT_FILTER,
    DEADLINE_EXCEEDED,
    EMPTY_ANSWER,
    MALFORMED_RESPONSE,
    RUN_CANCELLED,
    STREAM_BROKEN,
    STREAM_ERROR,
    TIMEOUT,
    UNANSWERED_TOOL_CALL,
    UNREACHABLE,
    delegation_status,
)
from delegate_tool.protocol.result import DelegationStatus
from delegate_tool.protocol.text import well_formed

NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Errors of a request that was not sent: nothing was executed."""
_MAX_MESSAGE: Final = 2_000
_SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_LIMITS: Final = ("depth", "max_depth", "runs_left", "budget_remaining_usd")


class TooLarge(ValueError):
    """An answer exceeds the size limit, which the message states."""

    code: ClassVar[str] = ANSWER_TOO_LARGE


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delegation failed.

    Attributes:
        code: the endpoint's, else one of `CLIENT_CODES`, `content_filter`, `deadline_exceeded` or `http_<status>`.
        details: the endpoint's facts about the error.
        headers: of the response, where there was one.
        http_status: of the error response; None if the error came in a stream or was made here.
        retry_after_s: of the error response, if it has one.
    """

    status: DelegationStatus
    code: str
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    http_status: int | None = None
    retry_after_s: float | None = None


def explain(error: openai.APIError | httpx.HTTPError | ValueError, secrets: Secrets | None = None) -> Failure:
    """Explain what an error of the OpenAI client, or of the stream below it, means for the delegation.

    Args:
        secrets: masked in what the error quotes, before texts are cut: a part of a secret could not be recognised any more.
    """
    secrets = secrets or Secrets()
    match error:
        case openai.APIStatusError():
            return _from_status(error, secrets)
        case openai.APIConnectionError():
            code, message = _read_connection_error(error)
        case openai.APIError():
            return _from_stream(error, secrets)
        case httpx.TimeoutException():
            code, message = TIMEOUT, "The endpoint stopped sending before the answer was complete."
        case httpx.HTTPError():
            why = str(error) or type(error).__name__
            code, message = STREAM_BROKEN, f"The connection broke before the answer was complete: {why}."
        case TooLarge():
            code, message = error.code, str(error)
        case _:
            code, message = MALFORMED_RESPONSE, f"The endpoint does not answer in OpenAI's format: {error}"
    return _failure(code, secrets.mask(message))


def _read_connection_error(error: openai.APIConnectionError) -> tuple[str, str]:
    host = _host(error.request)
    why = explain_certificate(error) or str(error.__cause__ or "") or error.message
    if isinstance(error.__cause__, NOT_SENT):
        return UNREACHABLE, f"{host} cannot be reached: {why}."
    if isinstance(error, openai.APITimeoutError):
        return TIMEOUT, f"{host} did not answer in time."
    return STREAM_BROKEN, f"{host} broke the connection before it answered: {why}."


def deadline_failure(timeout_s: float) -> Failure:
    """Make the failure of a delegation that the endpoint did not end before the deadline."""
    return _failure(DEADLINE_EXCEEDED, f"The delegation did not end within {timeout_s:g} s.")


def broken_stream_failure() -> Failure:
    """Make the failure of a stream that ended without an error before the answer was complete."""
    return _failure(STREAM_BROKEN, "The stream ended before the answer was complete.")


def stream_error_failure() -> Failure:
    """Make the failure of an answer that the endpoint marked as failed without a reason."""
    return _failure(STREAM_ERROR, "The endpoint ended its answer with an error and gave no reason.")


def no_answer_failure(*, asks_for_tools: bool) -> Failure:
    """Make the failure of a plain endpoint that ended without an answer."""
    if asks_for_tools:
        return _failure(UNANSWERED_TOOL_CALL, "The endpoint asked for a tool instead of answering, although it was offered none.")
    return _failure(EMPTY_ANSWER, "The endpoint ended without any text in its answer.")


def content_filter_failure() -> Failure:
    """Make the failure of an answer that the LLM's provider withheld."""
    return _failure(CONTENT_FILTER, "The provider's content filter withheld the answer.")


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in seconds; return None for a date, which it may also be."""
    text = headers.get("retry-after", "").strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def _with_limits(message: str, details: Mapping[str, object]) -> str:
    """Append the limits in `details` to a message."""
    limits = ", ".join(f"{name} {well_formed(str(details[name])[:20])}" for name in _LIMITS if name in details)
    return f"{message.strip()[:_MAX_MESSAGE]} ({limits})" if limits else message.strip()[:_MAX_MESSAGE]


def _failure(code: str, message: str) -> Failure:
    return Failure(DelegationStatus.FAILED, code, message.strip()[:_MAX_MESSAGE])


def _from_status(error: openai.APIStatusError, secrets: Secrets) -> Failure:
    code, message, details = _read_body(error, secrets)
    code = code or f"http_{error.status_code}"
    status = delegation_status(code, error.status_code)
    message = message or f"HTTP {error.status_code} from {_host(error.request)}."
    headers = error.response.headers
    failure = Failure(status, code, _with_limits(message, details), details, headers)
    return replace(failure, http_status=error.status_code, retry_after_s=parse_retry_after(headers))


def _from_stream(error: openai.APIError, secrets: Secrets) -> Failure:
    # The run had been admitted when it failed, so this is never a refusal, whatever the code.
    code, message, details = _read_body(error, secrets)
    code = code or STREAM_ERROR
    status = DelegationStatus.CANCELLED if code == RUN_CANCELLED else DelegationStatus.FAILED
    return Failure(status, code, _with_limits(message or secrets.mask(error.message), details), details)


def _read_body(error: openai.APIError, secrets: Secrets) -> tuple[str | None, str | None, Mapping[str, object]]:
    # The client has unwrapped {"error": …} already; some endpoints put numbers into `code`, or a text in place of the object.
    masked = secrets.mask_json(error.body)
    body = masked if isinstance(masked, Mapping) else {}
    if isinstance(masked, str) and not masked.lstrip().startswith("<"):  # not the page of a proxy
        body = {"message": masked}
    code, message, details = body.get("code"), body.get("message"), body.get("details")
    return (
        well_formed(str(code)[:100]) if isinstance(code, str | int) and code != "" else None,
        well_formed(message) if isinstance(message, str) else None,
        dict(details) if isinstance(details, Mapping) else {},
    )


def _host(request: httpx.Request) -> str:
    return request.url.netloc.decode("ascii")
