"""How an LLM's stream ends: with its answer, before it, or at the limit of output. Knows LiteLLM's streams of both endpoints."""

from collections.abc import Callable
from typing import Any

from litellm.exceptions import APIConnectionError
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.anthropic.chat.handler import ModelResponseIterator as AnthropicStream
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.openai.chat.gpt_transformation import OpenAIChatCompletionStreamingHandler as OpenAIStream
from litellm.llms.openrouter.chat.transformation import OpenRouterChatCompletionStreamingHandler as OpenRouterStream
from litellm.types.llms.openai import ResponseCompletedEvent, ResponseIncompleteEvent, ResponsesAPIStreamEvents


def keep_quoted_ends() -> None:
    """Have LiteLLM take `[DONE]` for a stream's end only where it stands alone, for the whole process. Idempotent.

    Otherwise it drops each piece of an answer that quotes the mark: a whole tool call, where that comes in one piece.
    """
    original = BaseModelResponseIterator._handle_string_chunk
    if not getattr(original, "keeps", False):
        keeping: Any = _keeping(original)
        keeping.keeps = True
        BaseModelResponseIterator._handle_string_chunk = keeping  # type: ignore[method-assign]


def _keeping(read: Callable[..., object]) -> Callable[..., object]:
    def keep(self: BaseModelResponseIterator, str_line: str) -> object:
        if "[DONE]" in str_line and (chunk := self._string_to_dict_parser(str_line)):
            return self.chunk_parser(chunk)
        return read(self, str_line)

    return keep


def check_end(stream: object, model: str) -> None:
    """Look at a stream that has ended whether its answer has, too: LiteLLM takes one that was cut politely for whole.

    Only in OpenAI's format (OpenRouter's is one) and in Anthropic's, because of others LiteLLM forgets the end (of Gemini's tool
    calls).

    Raises:
        APIConnectionError: neither a finish reason nor `[DONE]` came.
    """
    checked = OpenAIStream | OpenRouterStream | AnthropicStream
    if not isinstance(stream, CustomStreamWrapper) or not isinstance(stream.completion_stream, checked):
        return
    if stream.received_finish_reason is None:
        error = APIConnectionError("the stream ended before the answer did", llm_provider="", model=model)
        error.status_code = 200  # it was worked on
        raise error


def as_completed(stream: Any, item: object) -> object:
    """Make an answer that was cut off, in OpenAI's Responses, one that is complete and says so: the SDK knows no other end.

    It would take it for none, and ask again, at the same price.
    """
    if not isinstance(item, ResponseIncompleteEvent):
        return item
    completed = ResponseCompletedEvent(type=ResponsesAPIStreamEvents.RESPONSE_COMPLETED, response=item.response)
    stream.completed_response = completed
    return completed
