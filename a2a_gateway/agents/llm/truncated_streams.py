"""Check how an LLM's stream ended: complete, truncated, or at the limit of output. Knows LiteLLM's streams of both endpoints."""

from typing import Any, Final

from litellm.exceptions import APIConnectionError
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.anthropic.chat.handler import ModelResponseIterator as AnthropicStream
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator as GeminiStream
from litellm.types.llms.openai import ResponseCompletedEvent, ResponseIncompleteEvent, ResponsesAPIStreamEvents

from a2a_gateway.agents.llm.providers.stream_reading import StreamReading

_READ_BY_LINE: Final = (BaseModelResponseIterator, AnthropicStream, GeminiStream)
"""LiteLLM's readers that lose content unless `answer_reading` parses the stream before them."""


def check_damage(reading: StreamReading | None, model: str) -> None:
    """Check that all of a stream could be parsed, independently of LiteLLM's result.

    Raises:
        APIConnectionError: a part could not be parsed.
    """
    if reading is not None and reading.damage is not None:
        raise _unfinished_error(f"the LLM's stream is damaged: {reading.damage}", model) from reading.damage


def check_end(stream: object, reading: StreamReading | None, model: str) -> None:
    """Check that a stream that has ended contained a whole answer: LiteLLM reports a truncated one as finished.

    For a format that is not parsed here (Bedrock's is binary), LiteLLM's record of a finish reason decides.

    Raises:
        APIConnectionError: the provider's own end mark did not come, or the stream did not pass through `answer_reading`.
    """
    check_damage(reading, model)
    is_complete = None if reading is None else reading.is_complete
    if isinstance(stream, CustomStreamWrapper):
        if reading is None and isinstance(stream.completion_stream, _READ_BY_LINE):
            raise _unfinished_error("the stream was not checked, because LiteLLM did not receive it through httpx", model)
        if is_complete is None:
            is_complete = bool(stream.received_finish_reason or stream.intermittent_finish_reason)
    if is_complete is False:
        raise _unfinished_error("the stream ended before the answer did", model)


def _unfinished_error(message: str, model: str) -> APIConnectionError:
    error = APIConnectionError(message, llm_provider="", model=model)
    error.status_code = 200  # the provider worked on it
    return error


def convert_incomplete(stream: Any, item: object) -> object:
    """Convert the end event of a cut-off answer (OpenAI's Responses) to one of a complete answer; its reason is kept.

    The SDK accepts no other end event: it would treat the answer as missing, and repeat the call at the same price.
    """
    if not isinstance(item, ResponseIncompleteEvent):
        return item
    completed = ResponseCompletedEvent(type=ResponsesAPIStreamEvents.RESPONSE_COMPLETED, response=item.response)
    stream.completed_response = completed
    return completed
