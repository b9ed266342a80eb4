"""Translate errors of the SDK, LiteLLM and providers to the gateway's errors. Pure.

Evidence in order of precedence: the class of the SDK's or LiteLLM's error, if it is specific; the provider's message; a general
class; the HTTP status of the first error in the chain of causes that has one.
"""

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import openai
from litellm import exceptions as litellm
from openhands.sdk.conversation.exceptions import ConversationRunError
from openhands.sdk.llm import exceptions as sdk

from a2a_gateway.errors import (
    AgentFailed,
    ContentFiltered,
    ContextLengthExceeded,
    GatewayError,
    LLMAuthFailed,
    LLMBadRequest,
    LLMNotFound,
    LLMRateLimited,
    LLMUnavailable,
    RunError,
)
from a2a_gateway.provider_errors import MAX_TEXT_CHARS, is_unpaid, meaning_of, wait_in_text
from delegate_tool.masking import HIDDEN, Secrets

_MAX_RETRY_AFTER_S: Final = 60.0
_MAX_MESSAGE_CHARS: Final = 400

_CREDENTIAL: Final = re.compile(
    r"(?i:bearer\s+)[\w.~+/=*-]{6,}|\b(?:sk|pk|rk|key|gsk|xai)-[\w*.-]{6,}|\bAIza[\w*-]{10,}|\bAKIA[A-Z0-9*]{8,}"
    r"|\b(?:gh[pousr]|hf|glpat|xox[a-z])[_-][\w*-]{8,}|\bya29\.[\w-]+|\beyJ[\w-]{8,}\.[\w.-]+|\b(?=\w*\d)(?=\w*[A-Za-z])\w{32,}"
)
_PROVIDER_MESSAGE: Final = re.compile(r'"(?:message|error|detail)"\s*:\s*"((?:[^"\\]|\\.)+)')
"""Without the closing quotation mark, which is missing if a long text was truncated."""
_EXCEPTION_PREFIX: Final = re.compile(r"^(?:litellm\.)?\w*(?:Error|Exception)(?::|\s+-)\s*")
_PYTHON_OBJECT: Final = re.compile(r" \w+:<[^<>]* object at 0x[0-9a-f]+>")
"""Python objects that libraries print into their errors, such as the SSL context of an unknown host."""
_PYTHON_ERROR: Final = re.compile(r" Original exception:|\s*Traceback \(most recent call last\)")
"""The point where LiteLLM appends Python's own error text to its message."""

_PROVIDER_ERRORS: Final = (openai.OpenAIError, sdk.LLMError)
"""Only the texts of these are interpreted: errors of the agent or its tools may use the same words. LiteLLM's are subclasses."""
_BY_CLASS: Final[tuple[tuple[tuple[type[BaseException], ...], type[RunError]], ...]] = (
    ((sdk.LLMContextWindowExceedError, litellm.ContextWindowExceededError), ContextLengthExceeded),
    ((sdk.LLMContentPolicyViolationError, litellm.ContentPolicyViolationError), ContentFiltered),
    ((litellm.AuthenticationError, litellm.PermissionDeniedError), LLMAuthFailed),
    ((litellm.NotFoundError,), LLMNotFound),
    ((sdk.LLMRateLimitError, litellm.RateLimitError), LLMRateLimited),
)
"""Classes that decide, whatever the message is."""
_BY_GENERAL_CLASS: Final[tuple[tuple[tuple[type[BaseException], ...], type[RunError]], ...]] = (
    ((sdk.LLMAuthenticationError,), LLMAuthFailed),
    ((sdk.LLMBadRequestError, sdk.LLMMalformedConversationHistoryError, litellm.BadRequestError), LLMBadRequest),
    ((sdk.LLMServiceUnavailableError, sdk.LLMTimeoutError, sdk.LLMNoResponseError), LLMUnavailable),
)
_BY_STATUS: Final = {
    401: LLMAuthFailed,
    403: LLMAuthFailed,
    404: LLMNotFound,
    429: LLMRateLimited,
    400: LLMBadRequest,
    422: LLMBadRequest,
}
_MESSAGES: Final[dict[type[RunError], str]] = {
    ContextLengthExceeded: "The conversation is longer than the LLM's context window",
    ContentFiltered: "The LLM provider's content filter blocked the request or its answer",
    LLMAuthFailed: "The LLM provider refused this gateway's credentials",
    LLMNotFound: "The LLM provider does not know this agent's model",
    LLMRateLimited: "The LLM provider limits the rate of requests",
    LLMUnavailable: "The LLM provider could not be reached or did not finish its answer",
    LLMBadRequest: "The LLM provider refused the request",
}


def failure_of(error: BaseException, secrets: Secrets) -> GatewayError:
    """Return the gateway's error for the error that ended a run; it quotes the provider's message, shortened and masked."""
    chain = list(causes_of(error))
    for link in chain:
        if isinstance(link, GatewayError):
            return link
    kind = kind_of(error)
    message = _provider_message(chain, secrets)
    if kind is None:
        return AgentFailed(f"The agent failed: {message}" if message else "The agent failed.")
    wait_s = requested_wait_s(error) if kind is LLMRateLimited else None
    retry_after_s = None if wait_s is None else min(wait_s, _MAX_RETRY_AFTER_S)
    return kind(f"{_MESSAGES[kind]}: {message}" if message else f"{_MESSAGES[kind]}.", retry_after_s=retry_after_s)


class Unrepeatable(Exception):
    """An LLM call failed and must not be retried: part of its answer was sent to the client, or no retry can help."""


def is_quota_used_up(error: BaseException) -> bool:
    """Return whether the account at the provider has no money or quota left."""
    return any(is_unpaid(str(link), _status_of(link)) for link in causes_of(error) if isinstance(link, _PROVIDER_ERRORS))


def shorten_texts(error: BaseException) -> None:
    """Truncate the texts of an error and of its causes: some providers quote a whole request in them."""
    for link in causes_of(error):
        untyped: Any = link  # `message` is an attribute of LiteLLM's errors
        link.args = tuple(map(_cut_text, link.args))
        if isinstance(getattr(link, "message", None), str | bytes):
            untyped.message = _cut_text(untyped.message)


def _cut_text(value: Any) -> Any:
    return value[:MAX_TEXT_CHARS] if isinstance(value, str | bytes) else value


def mask_credentials(text: str, secrets: Secrets) -> str:
    """Mask known secrets, and text that looks like a credential."""
    return _CREDENTIAL.sub(HIDDEN, secrets.mask(text))


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its chain of causes, without the SDK's own wrapper."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not isinstance(error, ConversationRunError):
            yield error
        error = error.original_exception if isinstance(error, ConversationRunError) else error.__cause__ or error.__context__


def kind_of(error: BaseException) -> type[RunError] | None:
    """Return the class of the gateway's error for a failed LLM call; None if the error is not one of an LLM."""
    chain = list(causes_of(error))
    if any(isinstance(link, Unrepeatable) for link in chain) or is_quota_used_up(error):
        return LLMUnavailable
    kind = _by_class(chain, _BY_CLASS) or _by_message(chain) or _by_class(chain, _BY_GENERAL_CLASS)
    if kind is not None:
        return kind
    status = next((status for status in map(_status_of, chain) if status is not None), None)
    return None if status is None else _BY_STATUS.get(status, LLMUnavailable)


def _by_message(chain: list[BaseException]) -> type[RunError] | None:
    meanings = (meaning_of(str(link), _status_of(link)) for link in chain if isinstance(link, _PROVIDER_ERRORS))
    return next((meaning for meaning in meanings if meaning is not None), None)


def _by_class(
    chain: list[BaseException], table: tuple[tuple[tuple[type[BaseException], ...], type[RunError]], ...]
) -> type[RunError] | None:
    return next((kind for classes, kind in table if any(isinstance(link, classes) for link in chain)), None)


def _status_of(link: BaseException) -> int | None:
    status = getattr(link, "status_code", None)
    return status if isinstance(status, int) else None


def _provider_message(chain: list[BaseException], secrets: Secrets) -> str:
    text = next((str(link) for link in chain if str(link).strip()), "")[:MAX_TEXT_CHARS]
    if found := _PROVIDER_MESSAGE.search(text):
        text = re.sub(r"\\+n", " ", found.group(1)).replace('\\"', '"')
    text = _PYTHON_OBJECT.sub("", _PYTHON_ERROR.split(text, 1)[0])
    while (shorter := _EXCEPTION_PREFIX.sub("", text)) != text:
        text = shorter
    text = mask_credentials(" ".join(text.split()), secrets)
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + " …"


def requested_wait_s(error: BaseException) -> float | None:
    """Return the wait before the next attempt that a provider requests; None if it requests none."""
    for link in causes_of(error):
        headers = (
            getattr(link, "litellm_response_headers", None) or getattr(getattr(link, "response", None), "headers", None) or {}
        )
        for seconds in (_wait_in_headers(headers), wait_in_text(str(link))):
            if seconds is not None:
                return seconds
    return None


def _wait_in_headers(headers: Mapping[str, str]) -> float | None:
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / per_second
        except ValueError:
            seconds = _seconds_until(value, headers.get("date"))
        if 0 <= seconds < math.inf:
            return seconds
    return None


def _seconds_until(date: str, now: str | None) -> float:
    """Return the seconds between two dates of the provider's clock; a negative number if one of them cannot be parsed."""
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(now or "")).total_seconds()
    except (ValueError, TypeError):
        return -1.0
