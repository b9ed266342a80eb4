"""Requests, any: what is rendered is read as it was, and no body gets past the parser unread or breaks it."""

import json
from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from a2a_gateway.errors import RequestError
from a2a_gateway.runs.messages import (
    AnswerFormat,
    AssistantMessage,
    ImagePart,
    Message,
    Part,
    Sampling,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.wire.chat.request import CompletionRequest, parse_chat_request
from delegate_tool.protocol.context import DelegationContext, Narration, OnDisconnect, encode_headers
from tests.wire.samples import PIXEL, USER, call, schema_format

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
text_parts = st.lists(st.builds(TextPart, texts), min_size=1, max_size=3).map(tuple)
image_parts = st.builds(
    ImagePart, st.sampled_from([PIXEL, "https://x.org/i.png"]), st.sampled_from([None, "auto", "low", "high"])
)
some_parts = st.lists(st.one_of(st.builds(TextPart, texts), image_parts), min_size=1, max_size=3).map(tuple)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["system", "user", "assistant", "calls"]))
        match kind:
            case "system":
                messages.append(SystemMessage(draw(text_parts)))
            case "user":
                messages.append(UserMessage(draw(some_parts), draw(st.none() | texts)))
            case "assistant":
                messages.append(AssistantMessage(draw(text_parts)))
            case _:
                names = draw(st.lists(texts, min_size=1, max_size=3))
                calls = tuple(
                    ToolCall(f"call-{index}-{number}", name, draw(st.text('{}: 1"'))) for number, name in enumerate(names)
                )
                messages.append(AssistantMessage(draw(st.just(()) | text_parts), calls))
                messages += [ToolMessage(each.id, draw(st.just(()) | some_parts)) for each in draw(st.permutations(calls))]
    return (*messages, UserMessage(draw(some_parts)))


contexts = st.builds(
    DelegationContext,
    max_depth=st.none() | st.integers(0, 10),
    budget_micro_usd=st.none() | st.integers(0, 10**12),
    timeout_s=st.none() | st.integers(1, 10**9).map(lambda ms: ms / 1000),
    max_turns=st.none() | st.integers(1, 100),
    allowed_agents=st.none() | st.frozensets(st.sampled_from(["openhands_a", "peer/openhands_b"])),
    on_disconnect=st.none() | st.sampled_from(OnDisconnect),
    narration=st.none() | st.sampled_from(Narration),
)
samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    max_output_tokens=st.none() | st.integers(1, 10**6),
    stop=st.lists(texts, max_size=16).map(tuple),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    reasoning_effort=st.sampled_from([None, "none", "low", "xhigh"]),
)
formats = st.sampled_from(
    [None, AnswerFormat("json_object"), AnswerFormat("json_schema", "x-1", {"type": "object", "required": ["a"]})]
)


@st.composite
def requests(draw: st.DrawFn) -> CompletionRequest:
    stream, messages = draw(st.booleans()), draw(conversations())
    return CompletionRequest(
        RunRequest(
            model=draw(texts),
            messages=messages,
            context=draw(contexts),
            sampling=draw(samplings),
            answer_format=draw(formats),
        ),
        stream=stream,
        include_usage=stream and draw(st.booleans()),
        ignored=tuple(sorted(set(without_effect(messages)))),
    )


def without_effect(messages: Iterable[Message]) -> Iterator[str]:
    """Name what is read and has no place in the SDK."""
    for message in messages:
        if isinstance(message, UserMessage) and message.name is not None:
            yield "messages.*.name"
        for part in message.parts:
            if isinstance(part, ImagePart) and part.detail not in (None, "auto"):
                yield "messages.*.content.*.image_url.detail"


def render_part(part: Part) -> dict[str, object]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url, "detail": part.detail}}


def render_message(message: Message) -> dict[str, object]:
    content = [render_part(part) for part in message.parts]
    match message:
        case SystemMessage():
            return {"role": "system", "content": content}
        case UserMessage(name=name):
            return {"role": "user", "content": content, "name": name}
        case AssistantMessage(tool_calls=calls):
            rendered = [call(each.id, each.name, each.arguments) for each in calls]
            return {"role": "assistant", "content": content or None, "tool_calls": rendered or None}
        case ToolMessage(tool_call_id=call_id):
            return {"role": "tool", "tool_call_id": call_id, "content": content}


def render_request(request: CompletionRequest) -> bytes:
    run = request.run
    sampling, wanted = run.sampling, run.answer_format
    answer = None
    if wanted is not None:
        answer = {"type": "json_object"} if wanted.schema is None else schema_format(wanted.schema, wanted.name)
    return json.dumps(
        {
            "model": run.model,
            "messages": [render_message(message) for message in run.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_completion_tokens": sampling.max_output_tokens,
            "stop": list(sampling.stop),
            "seed": sampling.seed,
            "reasoning_effort": sampling.reasoning_effort,
            "response_format": answer,
            "stream": request.stream,
            "stream_options": {"include_usage": request.include_usage} if request.stream else None,
        }
    ).encode()


@given(requests())
def test_a_request_survives_the_wire(request: CompletionRequest) -> None:
    assert parse_chat_request(render_request(request), encode_headers(request.run.context)) == request


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "id"]), inner)
    ),
    max_leaves=12,
)
known_fields = ["model", "messages", "stop", "n", "a2a", "response_format", "stream_options", "modalities", "audio", "tools", "x"]


@given(st.dictionaries(st.sampled_from(known_fields), json_values), st.binary(max_size=2))
def test_whatever_is_sent_is_read_or_refused(fields: dict[str, object], rubbish: bytes) -> None:
    sent = json.dumps({"model": "m", "messages": [USER], **fields}).encode("utf-8") + rubbish.strip()
    try:
        assert parse_chat_request(sent, {}).run.messages
    except RequestError as error:
        assert error.message
