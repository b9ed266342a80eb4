"""Read a streamed chat completion as the few events that the command line displays."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, SSEError

from a2a_gateway.cli.command_error import CommandError
from a2a_gateway.cli.gateway_client import not_a_gateway, remote_error


@dataclass(frozen=True, slots=True)
class ChatText:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatReasoning:
    """A piece of the LLM's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatHeartbeat:
    """A heartbeat: the agent is at work, and has sent no text for a while."""


@dataclass(frozen=True, slots=True)
class ChatEnd:
    """The agent has ended; `reason` is OpenAI's `finish_reason`."""

    reason: str


type ChatEvent = ChatText | ChatReasoning | ChatHeartbeat | ChatEnd


def read_chat(response: httpx.Response) -> Iterator[ChatEvent]:
    """Yield the events of a streamed completion; the last one is `ChatEnd`.

    Raises:
        CommandError: the run failed, or the stream ended before the run had.
    """
    ended = False
    for data in _read_events(response):
        for event in _read_chunk(data, response.status_code):
            ended = ended or isinstance(event, ChatEnd)
            yield event
    if not ended:
        raise CommandError(
            "The stream ended before the answer was complete.", "`a2a-gateway runs list` shows the state of the run."
        )


def _read_events(response: httpx.Response) -> Iterator[str]:
    try:
        for event in EventSource(response).iter_sse():
            if event.data not in ("", "[DONE]"):
                yield event.data
    except SSEError:
        raise not_a_gateway() from None


def _read_chunk(data: str, status: int) -> Iterator[ChatEvent]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise not_a_gateway() from None
    match chunk:
        case {"error": _}:
            raise remote_error(chunk, status)
        case {"choices": [{"delta": dict(delta), **choice}, *_]}:
            if not delta and not choice.get("finish_reason"):
                yield ChatHeartbeat()
            match delta:
                case {"reasoning_content": str(text)} if text:
                    yield ChatReasoning(text)
            match delta:
                case {"content": str(text)} if text:
                    yield ChatText(text)
            match choice:
                case {"finish_reason": str(reason)}:
                    yield ChatEnd(reason)
        case _:
            pass  # the usage chunk; the tree of runs reports more
