"""What became of a request to an LLM: refused, filtered, cut off? Pure; knows the replies and errors of LiteLLM."""

from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import ModelResponse

from a2a_gateway.agents.pricing import LLMReply
from a2a_gateway.errors import ContentFiltered


def is_refusal(error: Exception) -> bool:
    """Whether the provider, or the network, turned the request down before it worked on it; a timeout is work not waited for."""
    return not isinstance(error, TimeoutError) and getattr(error, "status_code", None) not in (None, 200, 408)


def is_filtered_answer(error: Exception) -> bool:
    """Whether an answer came and was blocked."""
    # Azure answers 200 without a message, which LiteLLM cannot read: the reason is only in what it quotes.
    return "'finish_reason': 'content_filter'" in str(error)


def unfiltered(reply: LLMReply) -> LLMReply:
    """Pass a reply on unless it was blocked.

    Raises:
        ContentFiltered: it was; the agent would take it for an empty answer and ask again, at the same price.
    """
    if isinstance(reply, ModelResponse) and reply.choices[0].finish_reason == "content_filter":
        raise ContentFiltered("The LLM provider's content filter blocked the answer.")
    return reply


def is_cut_off(reply: object) -> bool:
    """Whether an answer ended because it reached the limit of output tokens."""
    if isinstance(reply, ResponsesAPIResponse):
        return getattr(reply.incomplete_details, "reason", None) == "max_output_tokens"
    return isinstance(reply, ModelResponse) and reply.choices[0].finish_reason == "length"
