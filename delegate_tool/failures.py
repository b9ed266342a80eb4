"""What can go wrong on the way to another agent, in the words of the protocol: exceptions of the OpenAI client become `Failure`s.

A message says what happened, which limit had which value, and what to do instead, because its reader is an agent that has to
decide how to go on. Above stands `client`. Knows openai and httpx; not OpenHands, not the gateway.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

import httpx
import openai

from delegate_tool.masking import Secrets
from delegate_tool.protocol.result import DelegationStatus
from delegate_tool.protocol.text import well_formed

_REFUSALS: Final = frozenset({402, 403, 404, 508})
NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Errors of a request that has not left: nothing was executed."""
_MAX_MESSAGE: Final = 2_000
_SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_LIMITS: Final = ("depth", "max_depth", "runs_left", "budget_remaining_usd")

_REMEDIES: Final[Mapping[str, str]] = {
    "delegation_depth_exceeded": "Do this part yourself: nothing at this level may delegate.",
    "delegation_cycle_detected": "That agent is on this very task above you: do it yourself, or delegate a smaller part.",
    "delegation_runs_exhausted": "Do the rest yourself: no delegations are left.",
    "delegation_breadth_exceeded": "Wait until a delegation of yours has ended, then try again.",
    "agent_not_allowed": "Choose an agent that the tool's description lists, or do it yourself.",
    "agent_not_listed": "Choose an agent that the tool's description lists, or do it yourself.",
    "model_not_found": "Choose an agent that the tool's description lists, or do it yourself.",
    "gateway_loop_detected": "Choose an agent of this gateway, or do it yourself.",
    "budget_exceeded": "Finish with what you have: there is no money left to delegate.",
    "model_unpriced": "Call it without a budget, or choose another agent.",
    "capacity_exceeded": "Try again later, or do it yourself.",
    "content_filter": "Rephrase the task, or do it yourself.",
    "context_length_exceeded": "Delegate a shorter task or less context.",
    "conversation_busy": "Call the agent without conversation_id: that conversation waits for this run.",
    "conversation_not_found": "Start a new conversation: leave conversation_id out and repeat what matters in the task.",
    "deadline_exceeded": "Use what there is, delegate a smaller task, or allow more time.",
    "invalid_api_key": "Do it yourself: the credential for delegations is not accepted.",
    "empty_answer": "Ask again in other words, or do it yourself.",
    "answer_too_large": "Ask for less at once.",
    "unreachable": "Do it yourself, or try again later.",
}


class TooLarge(ValueError):
    """An answer is longer than may be kept of one; the message states the limit."""

    code: ClassVar[str] = "answer_too_large"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delegation did not end well.

    Attributes:
        code: the endpoint's, else `unreachable` (so nothing was executed), `timeout`, `stream_broken`, `stream_error`,
            `malformed_response`, `answer_too_large`, `empty_answer`, `unanswered_tool_call`, `content_filter`,
            `deadline_exceeded` or `http_<status>`.
        details: the endpoint's facts about the error.
        headers: of the response, where there was one.
        http_status: of the response that is the error; None where the error came in a stream, or from here.
        retry_after_s: when the endpoint wants the request again, where it says so.
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
            code, message = "timeout", "The connection fell silent before the answer was complete."
        case httpx.HTTPError():
            why = str(error) or type(error).__name__
            code, message = "stream_broken", f"The connection broke before the answer was complete: {why}."
        case TooLarge():
            code, message = error.code, str(error)
        case _:
            code, message = "malformed_response", f"The endpoint does not answer in OpenAI's format: {error}"
    return _failed(code, secrets.mask(message))


def _read_connection_error(error: openai.APIConnectionError) -> tuple[str, str]:
    host, why = _host(error.request), str(error.__cause__ or "") or error.message
    if isinstance(error.__cause__, NOT_SENT):
        return "unreachable", f"{host} cannot be reached: {why}."
    if isinstance(error, openai.APITimeoutError):
        return "timeout", f"{host} did not answer in time."
    return "stream_broken", f"{host} broke the connection before it answered: {why}."


def overdue(timeout_s: float) -> Failure:
    """The delegation's own time is over and the endpoint has not ended it."""
    return _failed("deadline_exceeded", f"The delegation did not end within {timeout_s:g} s.")


def broken_off() -> Failure:
    """The stream ended politely, but before the agent had."""
    return _failed("stream_broken", "The stream ended before the answer was complete.")


def stream_error() -> Failure:
    """Make the failure of an answer that the endpoint marked as failed without a reason."""
    return _failed("stream_error", "The endpoint ended its answer with an error and gave no reason.")


def unanswered(*, asks_for_tools: bool) -> Failure:
    """Make the failure of a plain endpoint that ended without an answer."""
    if asks_for_tools:
        return _failed("unanswered_tool_call", "The endpoint asked for a tool instead of answering, and it was offered no tools.")
    return _failed("empty_answer", "The endpoint ended without any text in its answer.")


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in seconds; a date, which it may also be, is not read."""
    text = headers.get("retry-after", "").strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def filtered() -> Failure:
    """The LLM's provider withheld the answer."""
    return _failed("content_filter", "The answer was withheld by the provider's content filter.")


def with_remedy(code: str, message: str, details: Mapping[str, object] | None = None) -> str:
    """Complete a message: the limits that `details` tells, then what to do instead."""
    limits = ", ".join(f"{name} {well_formed(str(details[name])[:20])}" for name in _LIMITS if name in details) if details else ""
    parts = (message.strip()[:_MAX_MESSAGE], f"({limits})" if limits else "", _REMEDIES.get(code, ""))
    return " ".join(part for part in parts if part)


def _failed(code: str, message: str) -> Failure:
    return Failure(DelegationStatus.FAILED, code, with_remedy(code, message))


def _from_status(error: openai.APIStatusError, secrets: Secrets) -> Failure:
    code, message, details = _read_body(error, secrets)
    code = code or f"http_{error.status_code}"
    if code == "run_cancelled":
        status = DelegationStatus.CANCELLED
    elif error.status_code in _REFUSALS or code == "model_unpriced":
        status = DelegationStatus.REFUSED
    else:
        status = DelegationStatus.FAILED
    message = message or f"HTTP {error.status_code} from {_host(error.request)}."
    headers = error.response.headers
    failure = Failure(status, code, with_remedy(code, message, details), details, headers)
    return replace(failure, http_status=error.status_code, retry_after_s=parse_retry_after(headers))


def _from_stream(error: openai.APIError, secrets: Secrets) -> Failure:
    # The run had been admitted when it failed, so this is never a refusal, whatever the code.
    code, message, details = _read_body(error, secrets)
    code = code or "stream_error"
    status = DelegationStatus.CANCELLED if code == "run_cancelled" else DelegationStatus.FAILED
    return Failure(status, code, with_remedy(code, message or secrets.mask(error.message), details), details)


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
