"""What a request asks for and does not get: named, so that no client relies on it."""

import json

from a2a_gateway.runs.events import OptionsIgnored
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.wire.chat.request import CompletionRequest, parse_chat_request
from a2a_gateway.wire.run_events import render_run_event
from tests.wire.samples import RECORD, body


def test_fields_without_effect_are_named_once_and_sorted() -> None:
    request = parse_chat_request(
        body(
            messages=[
                {"role": "assistant", "content": "a", "reasoning_content": "hm", "annotations": []},
                {"role": "assistant", "content": "b", "reasoning_content": "hm", "name": "bot"},
                {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
            ],
            tools=[{"type": "function"}],
            tool_choice="required",
            user="ada",
            metadata={"a": "b"},
            presence_penalty=0.5,
            logit_bias={"1": 2},
            store=True,
            num_ctx=4096,
            stream_options={"include_obfuscation": True},
        ),
        {},
    )
    assert request.ignored == (
        "logit_bias",
        "messages.*.content.*.cache_control",
        "messages.*.name",
        "messages.*.reasoning_content",
        "metadata",
        "num_ctx",
        "presence_penalty",
        "store",
        "stream_options.include_obfuscation",
        "tool_choice",
        "tools",
        "user",
    )


def test_an_empty_wish_for_web_search_is_a_wish() -> None:
    assert parse_chat_request(body(web_search_options={}), {}).ignored == ("web_search_options",)


def test_what_a_peer_ignores_is_an_event_of_its_run() -> None:
    rendered = render_run_event(1, OptionsIgnored(("stop",)), RECORD, at=0.0, gateway_id="here")
    event = json.loads(rendered.partition(b"data: ")[2])
    assert (event["type"], event["fields"]) == ("options.ignored", ["stop"])


def test_an_idempotency_key_has_an_effect_in_a_header_and_in_the_body() -> None:
    for request in (
        parse_chat_request(body(), {"Idempotency-Key": "k1"}),
        parse_chat_request(body(a2a={"idempotency_key": "k1"}), {}),
    ):
        assert (request.run.context.idempotency_key, request.ignored) == ("k1", ())


def test_a_repeat_is_recognised_by_the_request_and_not_the_response_form() -> None:
    def fingerprint(headers: dict[str, str] | None = None, **fields: object) -> str:
        return parse_chat_request(body(**fields), headers or {}).run.fingerprint

    first = fingerprint()
    assert fingerprint(stream=True, stream_options={"include_usage": True}) == first
    assert fingerprint({"Idempotency-Key": "k", "traceparent": "00-a-b-01", "X-A2A-Trail": "0f8e"}) == first
    others = [
        fingerprint(temperature=0.5),
        fingerprint(user="ada"),
        fingerprint({"X-A2A-Budget-USD": "1"}),
        fingerprint({"X-A2A-Allowed-Agents": "b,a"}),
        fingerprint(messages=[{"role": "user", "content": "ho"}]),
    ]
    assert len({first, *others}) == 6
    assert fingerprint({"X-A2A-Allowed-Agents": "a,b"}) == fingerprint({"X-A2A-Allowed-Agents": "b,a"})


def test_only_openais_sdks_say_that_they_repeat() -> None:
    counts = {"0": False, "": False, "1": True, "2": True}
    for count, is_retry in counts.items():
        assert parse_chat_request(body(), {"x-stainless-retry-count": count}).run.is_marked_retry is is_retry


def test_fields_that_ask_for_nothing_are_not_named() -> None:
    request = parse_chat_request(
        body(
            n=1,
            logprobs=False,
            top_logprobs=0,
            modalities=["text"],
            tools=[],
            functions=[],
            tool_choice="auto",
            parallel_tool_calls=True,
            presence_penalty=0,
            frequency_penalty=0.0,
            logit_bias={},
            store=False,
            metadata=None,
            user=None,
            service_tier="auto",
            verbosity="medium",
            audio=None,
            response_format=None,
            a2a=None,
        ),
        {},
    )
    assert request == CompletionRequest(RunRequest("openhands_default", (UserMessage((TextPart("hi"),)),)))


def test_fields_named_like_parts_of_a_python_object_are_only_names() -> None:
    names = ["__class__", "__dict__", "model_config", "model_dump", "model_extra", "model_fields", "schema_"]
    assert parse_chat_request(body(**dict.fromkeys(names, 1)), {}).ignored == tuple(names)
