"""Determine how a request to an LLM ended: refused, filtered, cut off or empty. Pure; knows the replies and errors of LiteLLM."""

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

_UNCERTAIN: Final = frozenset({408, 409, 499, 502, 504, 520, 522, 524})
"""Statuses after which the provider may have worked on the request: a server waited too long, or lost its upstream."""
_LITELLM_TYPES: Final = tuple(LITELLM_EXCEPTION_TYPES)
_UNCONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, httpx.ConnectTimeout, httpx.PoolTimeout)


def is_refusal(error: Exception) -> bool:
    """Return whether the provider certainly did not work on a request: it refused the request, or was not reached.

    LiteLLM's own error always has a status, such as 500 for a broken connection. Only the errors that caused it are evidence.
    """
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code not in _UNCERTAIN
        if isinstance(cause, openai.APIStatusError) and not isinstance(cause, _LITELLM_TYPES):
            return cause.status_code not in _UNCERTAIN
    if any(isinstance(cause, httpx.RequestError) for cause in causes):
        return any(map(_is_unconnected, causes))
    # The status of an error event in a stream, or of a request that LiteLLM itself refuses.
    status = getattr(error, "status_code", None)
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in _UNCERTAIN
    return is_refused and not is_unreadable(str(error))


def _is_unconnected(cause: BaseException) -> bool:
    # LiteLLM also raises `ConnectError` for a connection that was reset. Then its cause is an `OSError`.
    return isinstance(cause, _UNCONNECTED) or (isinstance(cause, httpx.ConnectError) and not isinstance(cause.__cause__, OSError))


def translate_failure(error: Exception, *, is_shown: bool) -> Exception:
    """Return the error to raise for a failed attempt: the error itself, or one to which the SDK reacts as it should.

    `is_shown` is whether a part of the answer has been sent to the client.
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
        # Neither LiteLLM nor the SDK could parse the answer, or the error in its place.
        messages = (str(cause) for cause in causes_of(error) if isinstance(cause, BaseLLMException))
        return Unrepeatable(next(messages, f"the answer cannot be read ({type(error).__name__}: {error})"))
    return error


def _is_filtered_answer(error: Exception) -> bool:
    # Azure sends status 200 without a message, which LiteLLM cannot parse. The reason is only in the text that it quotes.
    return "'finish_reason': 'content_filter'" in str(error)


def reject_filtered(reply: LLMReply) -> LLMReply:
    """Return a reply unless a content filter blocked it.

    Raises:
        ContentFiltered: it was blocked. The agent would treat it as an empty answer, and repeat the call at the same price.
    """
    if _end_of(reply) == "content_filter":
        raise ContentFiltered("The LLM provider's content filter blocked the answer.")
    return reply


def is_cut_off(reply: object) -> bool:
    """Return whether an answer ended at the limit of output tokens."""
    return _end_of(reply) in {"length", "max_output_tokens"}


def check_message(message: Message, *, was_cut_off: bool, budget_is_spent: bool) -> None:
    """Check that the agent can continue with an answer.

    Raises:
        BudgetExceeded: it calls tools, and the budget allows no further call.
        RunError: it was cut off while it was empty. The agent would repeat the call at the same price.
    """
    if budget_is_spent and calls_tools(message):
        raise budget_spent_error()
    if was_cut_off and is_empty_message(message):
        raise output_limit_error()


def is_empty_message(message: Message) -> bool:
    """Return whether an answer has no text and no tool call: it is empty, or contains only reasoning."""
    text = "".join(part.text for part in message.content if isinstance(part, TextContent))
    return not text.strip() and not message.tool_calls


def empty_answers_error() -> RunError:
    """Return the error of a run whose LLM sent several empty answers in a row."""
    return LLMUnavailable(
        "The LLM answered several times in a row without text or a tool call: with nothing, or only with reasoning. "
        "Ask for less reasoning, or use another model."
    )


def output_limit_error() -> RunError:
    """Return the error of a run whose answer was cut off."""
    return RunError("The LLM reached its limit of output tokens. Allow more (max_completion_tokens), or less reasoning.")


def _end_of(reply: object) -> str | None:
    """Return the reason why an answer ended, as its endpoint names it."""
    match reply:
        case ModelResponse():
            return str(reply.choices[0].finish_reason)
        case ResponsesAPIResponse(incomplete_details=details):
            return getattr(details, "reason", None)
        case _:
            return None
