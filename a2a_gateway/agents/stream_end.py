"""Whether a stream that has ended had brought its answer to an end. Knows LiteLLM's streams."""

from litellm.exceptions import APIConnectionError
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.anthropic.chat.handler import ModelResponseIterator as AnthropicStream
from litellm.llms.openai.chat.gpt_transformation import OpenAIChatCompletionStreamingHandler as OpenAIStream


def check_end(stream: object, model: str) -> None:
    """Look at a stream that has ended whether its answer has, too: LiteLLM takes one that was cut politely for whole.

    Only in OpenAI's and Anthropic's format, because of others LiteLLM forgets the end (of Gemini's tool calls).

    Raises:
        APIConnectionError: neither a finish reason nor `[DONE]` came.
    """
    if not isinstance(stream, CustomStreamWrapper) or not isinstance(stream.completion_stream, OpenAIStream | AnthropicStream):
        return
    if stream.received_finish_reason is None:
        error = APIConnectionError("the stream ended before the answer did", llm_provider="", model=model)
        error.status_code = 200  # it was worked on
        raise error
