"""Parse a chat-completions request.

Above: `server`, which has limited the size of the body. Below: `body` (shape), `messages`, `response_format`, and
`wire.request_body`. A field that an agent cannot honour is refused if ignoring it would fake success; otherwise it is ignored and
named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from a2a_gateway.errors import RequestError, UnsupportedError
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.wire.chat.body import ChatBody, ignored_fields, read_chat_body
from a2a_gateway.wire.chat.messages import parse_messages
from a2a_gateway.wire.chat.response_format import parse_answer_format
from a2a_gateway.wire.request_body import decode_json_object, fingerprint, is_marked_retry, parse_context

_FORM_OF_RESPONSE: Final = frozenset({"stream", "stream_options"})


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A parsed request: the run that it asks for, and how the response is to be presented.

    Attributes:
        include_usage: whether a stream ends with a chunk that has the usage.
        ignored: names of the fields without effect, for the response header.
    """

    run: RunRequest
    stream: bool = False
    include_usage: bool = False
    ignored: tuple[str, ...] = ()


def parse_chat_request(body: bytes, headers: Mapping[str, str]) -> CompletionRequest:
    """Read a chat-completions request.

    Raises:
        RequestError: it cannot be read; `param` is the path of the field, or the header, at fault.
        UnsupportedError: it asks for what no agent can do.
    """
    values = decode_json_object(body)
    _refuse_responses_api(values)
    chat = read_chat_body(values)
    _refuse_unsupported(chat)
    context = parse_context(headers, chat.a2a)
    run = RunRequest(
        model=chat.model,
        messages=parse_messages(chat.messages),
        context=context,
        sampling=_parse_sampling(chat),
        answer_format=parse_answer_format(chat.response_format),
        fingerprint=fingerprint(values, context, form_of_response=_FORM_OF_RESPONSE),
        is_marked_retry=is_marked_retry(headers),
    )
    stream, options = bool(chat.stream), chat.stream_options
    include_usage = stream and options is not None and bool(options.include_usage)
    return CompletionRequest(run, stream, include_usage, ignored_fields(chat))


def _refuse_responses_api(values: Mapping[str, object]) -> None:
    if "messages" not in values and "input" in values:
        raise RequestError(
            "messages: is required. The body has `input`, as the Responses API does; this is /v1/chat/completions.",
            param="messages",
        )


def _refuse_unsupported(chat: ChatBody) -> None:
    audio = "agents here answer with text only"
    wanted = {
        "n": (chat.n or 1) > 1 and "an agent gives one answer; send n requests for n answers",
        "logprobs": chat.logprobs and "an agent's answer has no log probabilities",
        "top_logprobs": chat.top_logprobs and "an agent's answer has no log probabilities",
        "modalities": set(chat.modalities or ()) - {"text"} and audio,
        "audio": chat.audio is not None and audio,
    }
    for param, reason in wanted.items():
        if reason:
            raise UnsupportedError(f"{param}: {reason}.", param=param)


def _parse_sampling(chat: ChatBody) -> Sampling:
    caps = [cap for cap in (chat.max_tokens, chat.max_completion_tokens) if cap is not None]
    stops = [chat.stop] if isinstance(chat.stop, str) else chat.stop or ()
    return Sampling(
        temperature=chat.temperature,
        top_p=chat.top_p,
        max_output_tokens=min(caps, default=None),
        stop=tuple(stop for stop in stops if stop),
        seed=chat.seed,
        reasoning_effort=chat.reasoning_effort,
    )
