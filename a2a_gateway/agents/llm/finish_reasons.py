"""What became of a request to an LLM: refused, filtered, cut off? Pure; knows the replies and errors of LiteLLM."""

from typing import Final

import aiohttp
import httpx
import openai
from litellm.exceptions import LITELLM_EXCEPTION_TYPES
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import ModelResponse
from openhands.sdk.llm import Message, TextContent
from openhands.sdk.llm.exceptions import LLMContextWindowExceedError, LLMError
from openhands.sdk.llm.exceptions.classifier import is_content_policy_violation, is_context_window_exceeded

from a2a_gateway.agents.llm.budget_notes import budget_spent_error, calls_tools
from a2a_gateway.agents.llm.error_translation import Unrepeatable, causes_of, is_quota_used_up, kind_of
from a2a_gateway.agents.llm.pricing import LLMReply
from a2a_gateway.errors import ContentFiltered, ContextLengthExceeded, GatewayError, LLMUnavailable, RunError
from a2a_gateway.provider_errors import is_unreadable

_UNPROVEN: Final = frozenset({408, 409, 499, 502, 504, 520, 522, 524})
"""Statuses that do not rule out work: a server has waited too long, or lost the one behind it."""
_LITELLM_TYPES: Final = tuple(LITELLM_EXCEPTION_TYPES)
_UNCONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, httpx.ConnectTimeout, httpx.PoolTimeout)


def is_refusal(error: Exception) -> bool:
    """Whether it is certain that the provider has not worked on a request: it said so, or was not reached.

    LiteLLM's own error has a status in any case, 500 for a connection that broke. What proves something stands below it.
    """
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code not in _UNPROVEN
        if isinstance(cause, openai.APIStatusError) and not isinstance(cause, _LITELLM_TYPES):
            return cause.status_code not in _UNPROVEN
    if any(isinstance(cause, httpx.RequestError) for cause in causes):
        return any(map(_is_unconnected, causes))
    status = getattr(error, "status_code", None)  # of an error event in a stream, or of what LiteLLM refuses by itself
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in _UNPROVEN
    return is_refused and not is_unreadable(str(error))


def _is_unconnected(cause: BaseException) -> bool:
    # `ConnectError` is LiteLLM's name for a connection that was reset, too: then it has a cause of its own.
    return isinstance(cause, _UNCONNECTED) or (isinstance(cause, httpx.ConnectError) and not isinstance(cause.__cause__, OSError))


def translate_failure(error: Exception, *, is_shown: bool) -> Exception:
    """Say what an attempt's failure is to be raised as: as it is, or as an error that tells the SDK what to do about it.

    `is_shown` is whether a part of the answer has been shown.
    """
    if isinstance(error, GatewayError):
        return error
    kind = kind_of(error)
    if kind is ContentFiltered or is_content_policy_violation(error) or _is_filtered_answer(error):
        return ContentFiltered("The LLM provider's content filter blocked the request or its answer.")
    if is_shown or is_quota_used_up(error):
        return Unrepeatable(str(error))
    if kind is ContextLengthExceeded and not is_context_window_exceeded(error):
        return LLMContextWindowExceedError(str(error))  # so that the SDK has the conversation summarised
    if kind is None and not isinstance(error, LLMError):
        # Neither LiteLLM nor the SDK could read the answer, or the error in its place.
        provider_words = (str(cause) for cause in causes_of(error) if isinstance(cause, BaseLLMException))
        return Unrepeatable(next(provider_words, f"the answer cannot be read ({type(error).__name__}: {error})"))
    return error


def _is_filtered_answer(error: Exception) -> bool:
    # Azure answers 200 without a message, which LiteLLM cannot read: the reason is only in what it quotes.
    return "'finish_reason': 'content_filter'" in str(error)


def reject_filtered(reply: LLMReply) -> LLMReply:
    """Pass a reply on unless it was blocked.

    Raises:
        ContentFiltered: it was; the agent would take it for an empty answer and ask again, at the same price.
    """
    if _end_of(reply) == "content_filter":
        raise ContentFiltered("The LLM provider's content filter blocked the answer.")
    return reply


def is_cut_off(reply: object) -> bool:
    """Whether an answer ended because it reached the limit of output tokens."""
    return _end_of(reply) in {"length", "max_output_tokens"}


def check_message(message: Message, *, cut_off: bool, spent: bool) -> None:
    """Look at an answer whether the agent can go on with it.

    Raises:
        BudgetExceeded: it asks for tools, and the budget is `spent`.
        RunError: it was cut off before it said anything; the agent would ask again, at the same price.
    """
    if spent and calls_tools(message):
        raise budget_spent_error()
    if cut_off and is_empty_message(message):
        raise output_limit_error()


def is_empty_message(message: Message) -> bool:
    """Whether an answer has no text and no tool call: it is empty, or holds only reasoning."""
    said = "".join(part.text for part in message.content if isinstance(part, TextContent))
    return not said.strip() and not message.tool_calls


def empty_answers_error() -> RunError:
    """Say why a run ends whose LLM does not answer, though it was asked again."""
    return LLMUnavailable(
        "The LLM answered several times in a row without text or a tool call: with nothing, or only with reasoning. "
        "Ask for less reasoning, or use another model."
    )


def output_limit_error() -> RunError:
    """Say why a run ends with an answer that was cut off."""
    return RunError("The LLM reached its limit of output tokens. Allow more (max_completion_tokens), or less reasoning.")


def _end_of(reply: object) -> str | None:
    """Why an answer ended, in the words of its endpoint."""
    match reply:
        case ModelResponse():
            return str(reply.choices[0].finish_reason)
        case ResponsesAPIResponse(incomplete_details=details):
            return getattr(details, "reason", None)
        case _:
            return None
