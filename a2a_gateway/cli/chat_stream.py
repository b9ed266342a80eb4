"""Read a streamed chat completion as the few events that the command line displays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx

from a2a_gateway.cli.command_error import CommandError
from a2a_gateway.cli.gateway_client import read_events, remote_error
from delegate_tool.protocol.codes import STREAM_BROKEN


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


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """What the run has used, as the protocol's `usage` object; comes last."""

    usage: Mapping[str, object]


type ChatEvent = ChatText | ChatReasoning | ChatHeartbeat | ChatEnd | ChatUsage


def read_chat(response: httpx.Response) -> Iterator[ChatEvent]:
    """Yield the events of a streamed completion, which ends with `ChatEnd` and, if the request asked for it, `ChatUsage`.

    Raises:
        CommandError: the run failed, or the stream ended before the run had.
    """
    ended = False
    for chunk in read_events(response):
        for event in _read_chunk(chunk, response.status_code):
            ended = ended or isinstance(event, ChatEnd)
            yield event
    if not ended:
        raise CommandError(
            "The stream ended before the answer was complete.",
            "`a2a-gateway runs list` shows the state of the run.",
            code=STREAM_BROKEN,
        )


def _read_chunk(chunk: dict[str, object], status: int) -> Iterator[ChatEvent]:
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
        case {"usage": dict(usage)}:
            yield ChatUsage(usage)
        case _:
            pass
