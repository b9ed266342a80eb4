"""A chat-completions request to a `RunRequest`: the one way in for untrusted bytes.

Above: `server`, which has limited the size of the body. Below: `openai_body` (shape), `openai_messages`, `answer_format`, and the
delegation context's codec. What an agent cannot honour is refused where ignoring it would fake success, else ignored and named.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pydantic_core import from_json, to_json

from a2a_gateway.errors import RequestError, UnsupportedError
from a2a_gateway.runs.messages import Sampling
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.wire.chat.body import ChatBody, ignored_fields, read_chat_body
from a2a_gateway.wire.chat.messages import parse_messages
from a2a_gateway.wire.chat.response_format import parse_answer_format
from delegate_tool.protocol.context import ContextError, DelegationContext, decode_body, decode_headers, encode_headers

_FORM_OF_RESPONSE: Final = frozenset({"stream", "stream_options"})
_RETRY_HEADER: Final = "x-stainless-retry-count"
"""Set by OpenAI's SDKs alone; other clients repeat a request without a word."""


def parse_chat_request(body: bytes, headers: Mapping[str, str]) -> RunRequest:
    """Read a chat-completions request.

    Raises:
        RequestError: it cannot be read; `param` is the path of the field, or the header, at fault.
        UnsupportedError: it asks for what no agent can do.
    """
    values = _decode_json(body)
    chat = read_chat_body(values)
    _refuse_unsupported(chat)
    streams = bool(chat.stream)
    options = chat.stream_options
    context = _parse_context(chat, headers)
    return RunRequest(
        model=chat.model,
        messages=parse_messages(chat.messages),
        context=context,
        sampling=_parse_sampling(chat),
        answer_format=parse_answer_format(chat.response_format),
        stream=streams,
        include_usage=streams and options is not None and bool(options.include_usage),
        ignored=tuple(ignored_fields(chat)),
        fingerprint=_fingerprint(values, context),
        is_marked_retry=headers.get(_RETRY_HEADER, "0").strip() not in ("", "0"),
    )


def _fingerprint(values: Mapping[str, object], context: DelegationContext) -> str:
    """Hash all that is asked, as it was said: a repeat is the same text, whether or not it is to be streamed this time."""
    asked = {name: value for name, value in values.items() if name not in _FORM_OF_RESPONSE}
    aside = {"idempotency_key": None, "traceparent": None, "tracestate": None, "on_disconnect": None, "trail": ()}
    headers = encode_headers(replace(context, **aside))  # type: ignore[arg-type]  # fields of DelegationContext
    return hashlib.sha256(to_json([asked, sorted(headers.items())])).hexdigest()


def _decode_json(body: bytes) -> dict[str, object]:
    try:
        # Refuses NaN, lone surrogates, deep nesting (200 levels) and endless numbers, which the standard library lets through.
        value = from_json(body.removeprefix(b"\xef\xbb\xbf"), allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object.")
    if "messages" not in value and "input" in value:
        raise RequestError(
            "messages: is required. The body has `input`, as the Responses API does; this is /v1/chat/completions.",
            param="messages",
        )
    return value


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


def _parse_context(chat: ChatBody, headers: Mapping[str, str]) -> DelegationContext:
    try:
        asked = decode_headers(headers)
        return asked if chat.a2a is None else asked.narrowed_by(decode_body(chat.a2a))
    except ContextError as error:
        raise RequestError(f"{error}.", param=error.param) from None


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
