"""Render a run for an OpenAI client: the chunks of a stream, or one completion. The result is bytes, ready to send.

Above: `presenter`. Below: run events, `outcome`, `usage`, `errors`.
"""

from collections.abc import Mapping
from typing import Final, assert_never

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import (
    ContentDelta,
    EventsOmitted,
    OptionsIgnored,
    ReasoningDelta,
    RunEvent,
    RunFinished,
    RunStarted,
    RunSummary,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.model import RunId
from a2a_gateway.wire.errors import error_object
from a2a_gateway.wire.json_bytes import encode_json
from a2a_gateway.wire.outcome import FinishReason, WireAnswer, render_outcome
from a2a_gateway.wire.sse import HEADERS, encode_event
from a2a_gateway.wire.usage import render_usage

DONE: Final = b"data: [DONE]\n\n"


class ChunkRenderer:
    """Renders one run's events as the chunks of one stream, all with the same id.

    Every chunk is built around the same text, so a content delta costs the encoding of its own text and one concatenation.

    Args:
        model: the agent's full model id, however the caller named it.
        created: seconds since the epoch.
        include_usage: send usage in a last chunk.
        gateway_id: see `render_usage`.
    """

    headers: Mapping[str, str] = HEADERS

    def __init__(self, run_id: RunId, model: str, created: int, *, include_usage: bool, gateway_id: str) -> None:
        self._head = {"id": completion_id(run_id), "object": "chat.completion.chunk", "created": created, "model": model}
        self._include_usage = include_usage
        self._gateway_id = gateway_id
        usage = b',"usage":null' if include_usage else b""  # as OpenAI does: only the last chunk's is not null
        self._before_delta = b"data: " + encode_json(self._head)[:-1] + b',"choices":[{"index":0,"delta":'
        self._before_content = self._before_delta + b'{"content":'
        self._before_reason = b',"logprobs":null,"finish_reason":'
        self._after_reason = b"}]" + usage + b"}\n\n"
        self._after_content = b"}" + self._before_reason + b"null" + self._after_reason

    def event(self, event: RunEvent) -> bytes:
        """Render an event as the SSE bytes that it adds to the stream; empty for an event that stays inside the run."""
        match event:
            case ContentDelta(text=text):
                return self._before_content + encode_json(text) + self._after_content if text else b""
            case ReasoningDelta(text=text):
                return self._chunk({"reasoning_content": text}) if text else b""
            case RunStarted():
                return self._chunk({"role": "assistant", "content": ""})
            case OptionsIgnored() | TurnFinished() | ToolStarted() | ToolFinished() | EventsOmitted():
                return b""
            case RunFinished():
                return self._ending(event)
            case _:
                assert_never(event)

    def heartbeat(self) -> bytes:
        """Render an empty chunk: the idle timers of clients count events, and no comments."""
        return self._chunk({})

    def _chunk(self, delta: dict[str, str], finish_reason: FinishReason | None = None) -> bytes:
        return self._before_delta + encode_json(delta) + self._before_reason + encode_json(finish_reason) + self._after_reason

    def _ending(self, finished: RunFinished) -> bytes:
        match render_outcome(finished):
            case WireAnswer(finish_reason=reason):
                return self._chunk({}, reason) + self._usage(finished.summary) + DONE
            case error:
                return render_error_event(error)

    def _usage(self, summary: RunSummary) -> bytes:
        if not self._include_usage:
            return b""
        return encode_event(
            encode_json({**self._head, "choices": [], "usage": render_usage(summary, gateway_id=self._gateway_id)})
        )


def completion_id(run_id: RunId) -> str:
    """Return the id of a run's completion; the same for its chunks and its whole response."""
    return f"chatcmpl-{run_id}"


def render_error_event(error: GatewayError) -> bytes:
    """Render a failure in mid-stream as the last event, without a `[DONE]` after it. OpenAI's SDKs raise an exception from it."""
    return encode_event(encode_json({"error": error_object(error)}))


def render_completion(
    answer: WireAnswer, summary: RunSummary, *, model: str, created: int, gateway_id: str, reasoning: str = ""
) -> bytes:
    """Render a whole response. `model` is the agent's full id, `created` seconds since the epoch."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    return encode_json(
        {
            "id": completion_id(summary.record.id),
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
            "usage": render_usage(summary, gateway_id=gateway_id),
        }
    )
