"""A gateway is a model: the official client, streamed and whole."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import a2a_headers, call, content_of, user
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"


async def test_the_models_are_the_profiles_with_what_they_may_do(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client:
        listed = {model.id: model for model in (await client.models.list()).data}
        one = await client.models.retrieve(PRICED)
    assert {"openhands_default", PRICED, "openhands_mute"} <= set(listed)
    assert one.model_dump() == listed[PRICED].model_dump()
    extra = one.model_extra or {}
    assert (extra["description"], extra["capabilities"]["may_delegate"]) == ("Has prices and every tool.", True)


async def test_a_whole_answer_has_text_usage_and_cost(gateway: GatewayUnderTest) -> None:
    step = Step(content="Hello there.", usage=Usage(100, 20, cached_tokens=40))
    async with gateway.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model=PRICED, messages=[user("Hi", step)])
        completion = raw.parse()
    assert completion.choices[0].message.content == "Hello there."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == PRICED
    assert completion.usage is not None
    usage = completion.usage.model_dump()
    run_id = usage["delegation"]["run_id"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (100, 20, 40)
    assert usage["cost"] == float(usage["cost_details"]["self"]) > 0
    assert usage["cost_details"]["complete"] is True
    headers = a2a_headers(raw.headers)
    assert headers["x-a2a-run-id"] == headers["x-a2a-tree-id"] == run_id
    assert headers["x-a2a-cost-usd"] == usage["cost_details"]["self"] == raw.headers["x-litellm-response-cost"]
    assert (headers["x-a2a-depth"], headers["x-a2a-protocol"], headers["x-a2a-stop-reason"]) == ("0", "1", "finished")
    assert raw.headers["x-openhands-serverconversation-id"]
    assert raw.headers["x-request-id"].startswith("req_")


async def test_a_stream_begins_with_the_role_ends_with_one_reason_and_joins_to_the_answer(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client:
        stream = await client.chat.completions.create(model=PRICED, messages=[user("Hi", Step(tokens=30))], stream=True)
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert content_of(chunks) == " ".join(f"w{number}" for number in range(30))
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


async def test_an_answer_may_speak_of_the_mark_that_ends_a_stream(gateway: GatewayUnderTest) -> None:
    said = "It ends with data: [DONE] and an empty line."
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=PRICED, messages=[user("Hi", Step(content=said))])
    assert completion.choices[0].message.content == said


async def test_usage_comes_in_a_last_chunk_only_when_asked_for(gateway: GatewayUnderTest) -> None:
    step = Step(content="x", usage=Usage(10, 5))
    async with gateway.client() as client:
        stream = await client.chat.completions.create(
            model=PRICED, messages=[user("Hi", step)], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    *before, last = chunks
    assert all(chunk.usage is None for chunk in before)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, (last.usage.model_extra or {})["cost"]) == (10, 5, 2e-05)


async def test_content_leaves_while_the_llm_is_still_speaking(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    gated = Step(content="first second third", gate=Gate("mid-stream", after=2))
    async with gateway.client() as client:
        stream = await client.chat.completions.create(model=PRICED, messages=[user("Hi", gated)], stream=True)
        seen = ""
        async for chunk in stream:
            seen += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            if seen and "second" not in seen:
                llm.open_gate("mid-stream")  # only what was streamed before the end can open it
    assert seen == "first second third"


async def test_silence_is_filled_with_empty_chunks_of_the_same_stream(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        stream = await client.chat.completions.create(
            model=PRICED, messages=[user("Hi", Step(content="at last", gate="silence"))], stream=True
        )
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == 3:
                llm.open_gate("silence")
    beats = [
        chunk
        for chunk in chunks[1:]
        if chunk.choices[0].delta.model_dump(exclude_none=True) == {} and not chunk.choices[0].finish_reason
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(beats) >= 2
    assert len({chunk.id for chunk in chunks}) == 1
    assert content_of(chunks) == "at last"


async def test_heartbeats_go_on_while_a_tool_works(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    wait = "until [ -e go ]; do read -t 0.05 < <(:) || true; done; echo gone"
    steps = (Step(tool_calls=(call("terminal", command=wait),)), Step(content="done"))
    async with gateway.client() as client:
        stream = await client.chat.completions.with_raw_response.create(
            model=PRICED, messages=[user("Wait", *steps)], stream=True
        )
        live = gateway.live_run(stream.headers["x-a2a-run-id"])
        chunks = []
        async for chunk in stream.parse():
            chunks.append(chunk)
            if len(chunks) == 4:
                (gateway.data_dir / "workspaces").joinpath(str(live.workspace_dir), "go").touch()
    assert content_of(chunks) == "done"
    assert len(chunks) >= 5


async def test_narration_streams_before_the_answer_and_a_blank_line_separates_them(gateway: GatewayUnderTest) -> None:
    steps = (Step(content="Let me look.", tool_calls=(call("terminal", command="echo hi"),)), Step(content="It prints hi."))
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=PRICED, messages=[user("Look", *steps)])
        stream = await client.chat.completions.create(model=PRICED, messages=[user("Look", *steps)], stream=True)
        streamed = content_of([chunk async for chunk in stream])
    assert completion.choices[0].message.content == streamed == "Let me look.\n\nIt prints hi."


@pytest.mark.parametrize("stream", [False, True])
async def test_narration_can_be_reasoning_or_nothing(gateway: GatewayUnderTest, stream: bool) -> None:
    steps = (Step(content="Let me look.", tool_calls=(call("terminal", command="echo hi"),)), Step(content="It prints hi."))
    seen = {}
    async with gateway.client() as client:
        for model, narration in ((PRICED, "reasoning"), (PRICED, "none"), ("openhands_mute", None)):
            headers = {"X-A2A-Narration": narration} if narration else {}
            answer: Any = await client.chat.completions.create(
                model=model, messages=[user("Look", *steps)], extra_headers=headers, stream=stream
            )
            if stream:
                deltas = [chunk.choices[0].delta async for chunk in answer if chunk.choices]
                content = "".join(delta.content or "" for delta in deltas)
                reasoning = "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas)
            else:
                message = answer.choices[0].message
                content, reasoning = message.content or "", (message.model_extra or {}).get("reasoning_content", "")
            seen[model, narration] = (content, reasoning)
    assert seen == {
        (PRICED, "reasoning"): ("It prints hi.", "Let me look."),
        (PRICED, "none"): ("It prints hi.", ""),
        ("openhands_mute", None): ("It prints hi.", ""),
    }


async def test_the_finish_tool_streams_its_message_as_the_arguments_arrive(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    text = 'The "answer" is:\n42 😀'
    async with gateway.client() as client:
        stream = await client.chat.completions.create(model=PRICED, messages=[user("Hi", Step(finish=text))], stream=True)
        chunks = [chunk async for chunk in stream]
    assert content_of(chunks) == text
    assert sum(1 for chunk in chunks if chunk.choices[0].delta.content) > 2


async def test_the_whole_history_reaches_the_llm_as_real_turns_in_order(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    history = [
        {"role": "system", "content": "Be terse, asks the client."},
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": "first answer"},
        {"role": "developer", "content": "And polite."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        user("and now? history-test", Step(content="ok")),
    ]
    async with gateway.client() as client:
        await client.chat.completions.create(model=PRICED, messages=history)
    sent = next(request for request in reversed(llm.traffic.requests) if "history-test" in request.last_text)
    system, *turns = sent.messages
    text = json.dumps(system)
    assert "Be terse, asks the client." in text
    assert "And polite." in text
    assert [turn["role"] for turn in turns] == ["user", "assistant", "assistant", "tool", "user"]
    assert turns[2]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    assert turns[3]["tool_call_id"] == turns[2]["tool_calls"][0]["id"]


async def test_sampling_is_the_llms_and_what_is_ignored_is_named(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=PRICED,
            messages=[user("sampling-test", Step(content="ok"))],
            temperature=0.25,
            top_p=0.5,
            max_tokens=77,
            stop=["END"],
            seed=7,
            presence_penalty=0.5,
            tools=[{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}],
            extra_body={"unknown_field": 1},
        )
    sent = next(request for request in reversed(llm.traffic.requests) if "sampling-test" in request.last_text)
    body = sent.body
    assert (body["temperature"], body["top_p"], body["stop"], body["seed"]) == (0.25, 0.5, ["END"], 7)
    assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert "mine" not in sent.tools
    assert raw.headers["x-a2a-ignored"] == "presence_penalty, tools, unknown_field"
    assert raw.parse().choices[0].message.tool_calls is None


@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_agent_s_llm_does_not_take_is_named_before_the_answer(gateway: GatewayUnderTest, stream: bool) -> None:
    asked: Any = {"stop": ["1", "2", "3", "4", "5"], "temperature": 0.5, "web_search_options": {}, "stream": stream}
    async with gateway.http() as http:
        answer = await http.post(
            "/v1/chat/completions", json={"model": PRICED, "messages": [user("hi", Step(content="ho"))], **asked}
        )
    assert (answer.status_code, answer.headers["x-a2a-ignored"]) == (200, "stop, web_search_options")


def _weather() -> list[Any]:
    asked = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [{**user("greet", Step(content="Hello.")), "role": "system"}],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "Yes?"}, user("greet", Step(content="Hello."))],
        [user("greet", Step(content="Hello.")), *_weather(), *_weather()],
        [user("greet", Step(content="Hello.")), {"role": "assistant", "content": "Hel"}],
    ],
    ids=["system only", "empty at first", "ids that repeat", "to be continued"],
)
async def test_conversations_that_openai_takes_are_answered(
    gateway: GatewayUnderTest, llm: ScriptedLLM, messages: list[Any]
) -> None:
    more: Any = {"stop": [""], "reasoning_effort": "default", "max_tokens": -1}
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=PRICED, messages=messages, **more)
    assert completion.choices[0].message.content == "Hello."
    calls = [call["id"] for message in llm.traffic.requests[-1].messages for call in message.get("tool_calls") or ()]
    assert len(calls) == len({*calls})


async def test_json_schema_binds_the_answer_with_one_repair_turn(gateway: GatewayUnderTest) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    response_format: Any = {"type": "json_schema", "json_schema": {"name": "count", "schema": schema}}
    async with gateway.client() as client:
        answers = {}
        for name, text in {"good": '{"n": 3}', "fenced": '```json\n{"n": 4}\n```'}.items():
            completion = await client.chat.completions.create(
                model=PRICED,
                messages=[user("Count", Step(content=text))],
                response_format=response_format,
            )
            answers[name] = json.loads(completion.choices[0].message.content or "")
    assert answers == {"good": {"n": 3}, "fenced": {"n": 4}}


async def test_an_answer_that_stays_wrong_is_an_error_not_an_answer(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    from openai import APIStatusError

    before = llm.traffic.received
    async with gateway.client() as client:
        with pytest.raises(APIStatusError) as failed:
            await client.chat.completions.create(
                model=PRICED, messages=[user("Count", Step(content="no json"))], response_format={"type": "json_object"}
            )
    assert failed.value.code == "response_format_violated"
    assert llm.traffic.received - before == 2


def test_a_stream_s_head_and_its_first_words_come_in_one_piece(gateway: GatewayUnderTest) -> None:
    url = urlsplit(gateway.base_url)
    body = json.dumps({"model": PRICED, "messages": [user("Hi", Step(content="Hello."))], "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {gateway.key}\r\n"
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        first = connection.recv(65_536)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"content":"Hello."' in first


def test_the_head_of_a_response_that_says_nothing_yet_is_not_held_back(gateway: GatewayUnderTest) -> None:
    url = urlsplit(gateway.base_url)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 ")
