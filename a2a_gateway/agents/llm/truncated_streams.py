"""How an LLM's stream ends: with its answer, before it, or at the limit of output. Knows LiteLLM's streams of both endpoints."""

from typing import Any, Final

from litellm.exceptions import APIConnectionError
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.anthropic.chat.handler import ModelResponseIterator as AnthropicStream
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator as GeminiStream
from litellm.types.llms.openai import ResponseCompletedEvent, ResponseIncompleteEvent, ResponsesAPIStreamEvents

from a2a_gateway.agents.llm.providers.stream_reading import StreamReading

_READ_BY_LINE: Final = (BaseModelResponseIterator, AnthropicStream, GeminiStream)
"""LiteLLM's readers that lose content, unless `answer_reading` reads before them."""


def check_damage(reading: StreamReading | None, model: str) -> None:
    """Check that all of a stream could be read, whatever LiteLLM made of it.

    Raises:
        APIConnectionError: a part could not.
    """
    if reading is not None and reading.damage is not None:
        raise _unfinished_error(f"the LLM's stream is damaged: {reading.damage}", model) from reading.damage


def check_end(stream: object, reading: StreamReading | None, model: str) -> None:
    """Check that a stream that has ended brought a whole answer: LiteLLM reports one that was cut as finished.

    Where the format is not known here (Bedrock's is binary), LiteLLM knows whether a finish reason came.

    Raises:
        APIConnectionError: the provider's own mark for the end did not come, or the stream was not read here.
    """
    check_damage(reading, model)
    is_complete = None if reading is None else reading.is_complete
    if isinstance(stream, CustomStreamWrapper):
        if reading is None and isinstance(stream.completion_stream, _READ_BY_LINE):
            raise _unfinished_error("the stream was not checked, because LiteLLM has not received it through httpx", model)
        if is_complete is None:
            is_complete = bool(stream.received_finish_reason or stream.intermittent_finish_reason)
    if is_complete is False:
        raise _unfinished_error("the stream ended before the answer did", model)


def _unfinished_error(message: str, model: str) -> APIConnectionError:
    error = APIConnectionError(message, llm_provider="", model=model)
    error.status_code = 200  # it was worked on
    return error


def convert_incomplete(stream: Any, item: object) -> object:
    """Make an answer that was cut off, in OpenAI's Responses, one that is complete and says so: the SDK knows no other end.

    It would take it for none, and ask again, at the same price.
    """
    if not isinstance(item, ResponseIncompleteEvent):
        return item
    completed = ResponseCompletedEvent(type=ResponsesAPIStreamEvents.RESPONSE_COMPLETED, response=item.response)
    stream.completed_response = completed
    return completed
