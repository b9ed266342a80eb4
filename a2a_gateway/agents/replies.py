"""What became of a request to an LLM: refused, filtered, cut off? Pure; knows the replies and errors of LiteLLM."""

from typing import Final

from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import ModelResponse
from openhands.sdk.llm import Message, TextContent

from a2a_gateway.agents.budget_notes import calls_tools, spent_up
from a2a_gateway.agents.pricing import LLMReply
from a2a_gateway.errors import ContentFiltered, RunError

_NOT_REFUSED: Final = (None, 200, 408, 504, 524)
"""Statuses of requests that somebody has begun to work on: the last three say that it took longer than a server waited."""


def is_refusal(error: Exception) -> bool:
    """Whether the provider, or the network, turned the request down before it worked on it; a timeout is work not waited for."""
    return not isinstance(error, TimeoutError) and getattr(error, "status_code", None) not in _NOT_REFUSED


def is_filtered_answer(error: Exception) -> bool:
    """Whether an answer came and was blocked."""
    # Azure answers 200 without a message, which LiteLLM cannot read: the reason is only in what it quotes.
    return "'finish_reason': 'content_filter'" in str(error)


def unfiltered(reply: LLMReply) -> LLMReply:
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


def check_said(message: Message, *, cut_off: bool, spent: bool) -> None:
    """Look at an answer whether the agent can go on with it.

    Raises:
        BudgetExceeded: it asks for tools, and the budget is `spent`.
        RunError: it was cut off before it said anything; the agent would ask again, at the same price.
    """
    if spent and calls_tools(message):
        raise spent_up()
    said = "".join(part.text for part in message.content if isinstance(part, TextContent))
    if cut_off and not said.strip() and not message.tool_calls:
        raise cut_short()


def cut_short() -> RunError:
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
