"""Classify the error messages of LLM providers: too long, too fast, unpaid, blocked, no such model. Pure.

Providers use different statuses and codes for the same error, and LiteLLM recognises only some of their messages. A prompt that
is too long matters most, because the conversation can be summarised and continued.

The order of the table matters: a message about tokens per minute may also contain "too large", and one about an unpaid account
may also contain "limit". `tests/agents/llm/test_provider_errors.py` has the messages that each entry is for.
"""

import re
from typing import Final

from a2a_gateway.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    LLMAuthFailed,
    LLMNotFound,
    LLMRateLimited,
    LLMUnavailable,
    RunError,
)

MAX_TEXT_CHARS: Final = 4_096
"""How much of a message is searched. Its reason is at the beginning, and each pattern scans all of it on the event loop."""

_UNPAID: Final = (
    r"insufficient_quota|usage_limit_reached|budget_exceeded|exceeded_current_quota|exceeded your current quota"
    r"|credit balance is too low|insufficient (?:credits|balance|funds)|requires more credits|out of credits"
    r"|credits? limit exceeded|used all available credits|credits are depleted|billing_hard_limit|billing hard limit"
    r"|billing_not_active|check your (?:plan and )?billing details|arrearage|account is in good standing|余额不足"
)
_TOO_FAST: Final = (
    r"rate.?limit|too many requests|tokens per (?:min|day|hour)|\(TP[MD]\)|please wait before trying again"
    r"|resource.?exhausted|throttl"
)
_BLOCKED: Final = (
    r"content_filter|content_policy|ResponsibleAIPolicyViolation|content management policy|content filtering policy"
    r"|safety system|usage policy|data_inspection_failed|inappropriate content|content exists risk|不安全或敏感内容"
)
_TOO_LONG: Final = (
    r"context_length_exceeded|ContextWindowExceeded|context length exceeded|model_max_prompt_tokens_exceeded|exceed_context_size"
    r"|request_too_large|maximum (?:context|model|prompt|input) length|maximum context limit|max context length"
    r"|reached context length"
    r"|exceeds? (?:the |its |model )?context (?:window|length|limit|size)"
    r"|context (?:window|length|size|limit) (?:has been )?exceed"
    r"|exceeds the (?:available context|maximum number of (?:input )?tokens)|exceeds (?:the )?maximum length"
    r"|context window is full|context the overflows|context overflow|than the (?:model's )?context length"
    r"|(?:prompt|input) (?:is )?too (?:long|large)|input token length too long|prompt exceeds max length"
    r"|input tokens exceed|reduce the length of|too many (?:input )?tokens(?!, please wait| per )"
    r"|too long to fit into the model|input token count .{0,40}(?:exceeds|but the model only supports)"
    r"|cannot exceed the total tokens limit|prompt token count .{0,40}exceeds|exceeded model token limit"
    r"|model max length exceeded|exceed max message tokens|range of input length|input length .{0,40}exceeds"
    r"|must be less than max_seq_len|too large for model with|`inputs` must have less than"
    r"|`inputs` tokens \+ `max_new_tokens`|input is too large to process|prompt ?超长"
    r"|max_tokens must be at least 1, got -"
)
_NO_MODEL: Final = (
    r"model_not_found|model not found|not_found_error|no models? (?:is |are )?loaded|model (?:is |has been )?unloaded"
    r"|model ['\x22`]?[\w./:-]{1,100}['\x22`]? (?:does not exist|not found)|try pulling it|not a valid model id"
    r"|model not exist|invalid model\b|model identifier is invalid|model does not exist|failed to load model"
    r"|model (?:is )?not loaded|模型不存在"
)
_NO_CREDENTIALS: Final = r"invalid_api_key|api_key_invalid|(?:incorrect|invalid) api.?key|api key not valid|authentication_error"
_UNREADABLE: Final = r"got unexpected response from"
"""LiteLLM's message for a line of a stream that it cannot read; its status is 400."""
_NOT_READY: Final = r"loading model|model is (?:currently )?loading|model is warming up|overloaded|model has crashed"

_MEANINGS: Final[tuple[tuple[re.Pattern[str], type[RunError]], ...]] = tuple(
    (re.compile(words, re.IGNORECASE), meaning)
    for words, meaning in (
        (_TOO_FAST, LLMRateLimited),
        (_BLOCKED, ContentFiltered),
        (_TOO_LONG, ContextLengthExceeded),
        (_NO_MODEL, LLMNotFound),
        (_NO_CREDENTIALS, LLMAuthFailed),
        (_NOT_READY, LLMUnavailable),
        (_UNREADABLE, LLMUnavailable),
    )
)
_QUOTA: Final = re.compile(_UNPAID, re.IGNORECASE)
_RETRY_DELAY: Final = re.compile(r'"?retryDelay"?\s*:\s*"?(\d+(?:\.\d+)?)s')
_TRY_AGAIN: Final = re.compile(
    r"(?:try again|retry)(?: \w+)? (?:in|after) (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?) ?(ms|s))?", re.IGNORECASE
)
"""As OpenAI and Groq write it: `in 20s`, `in 1m12.5s`, `in 430ms`, `after 5 seconds`."""
_LIMIT_AND_REQUEST: Final = re.compile(r"Limit:? (\d+)[,;] Requested:? (\d+)", re.IGNORECASE)
_PAYMENT_REQUIRED: Final = 402
_CONTENT_TOO_LARGE: Final = 413


def meaning_of(text: str, status: int | None = None) -> type[RunError] | None:
    """Return the error class of a message; None if the message adds nothing to its status."""
    text = text[:MAX_TEXT_CHARS]
    if is_unpaid(text, status):
        return LLMUnavailable
    for words, meaning in _MEANINGS:
        if words.search(text):
            return meaning
    return ContextLengthExceeded if status == _CONTENT_TOO_LARGE else None


def is_unpaid(text: str, status: int | None = None) -> bool:
    """Return whether the account has no money left. Such a message is like that of a rate limit, but without a time to wait."""
    text = text[:MAX_TEXT_CHARS]
    return status == _PAYMENT_REQUIRED or (bool(_QUOTA.search(text)) and wait_in_text(text) is None)


def is_unreadable(text: str) -> bool:
    """Return whether LiteLLM could not read a line of a stream, so that it is unknown how much work was done."""
    return re.search(_UNREADABLE, text[:MAX_TEXT_CHARS], re.IGNORECASE) is not None


def is_beyond_limit(text: str) -> bool:
    """Return whether one request exceeds the limit of a whole minute, so that waiting cannot help."""
    found = _LIMIT_AND_REQUEST.search(text[:MAX_TEXT_CHARS])
    return found is not None and int(found.group(2)) > int(found.group(1))


def wait_in_text(text: str) -> float | None:
    """Return how many seconds a message asks to wait; None if it has no time to wait."""
    text = text[:MAX_TEXT_CHARS]
    if found := _RETRY_DELAY.search(text):
        return float(found.group(1))
    found = _TRY_AGAIN.search(text)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds, unit = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0) / (1000 if unit == "ms" else 1)
