"""The scripted LLM as its clients see it: the official OpenAI client over real sockets."""

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from a2a_gateway.testing.script import ChatRequest, Gate, Script, ScriptedCall, Step, Usage, marker
from a2a_gateway.testing.scripted_llm import ScriptedLLM

pytestmark = pytest.mark.anyio


@pytest.fixture
async def llm() -> AsyncIterator[ScriptedLLM]:
    async with ScriptedLLM() as llm:
        yield llm


@pytest.fixture
async def client(llm: ScriptedLLM) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=llm.base_url, api_key="irrelevant", max_retries=0) as client:
        yield client


async def ask(client: openai.AsyncOpenAI, text: str, **more: Any) -> ChatCompletion:
    messages = [{"role": "user", "content": text}]
    completion: ChatCompletion = await client.chat.completions.create(**{"model": "scripted", "messages": messages, **more})
    return completion


async def ask_streaming(client: openai.AsyncOpenAI, text: str, **more: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": text}], stream=True, **more
    )
    return [chunk async for chunk in stream]


async def test_without_a_marker_the_default_script_answers(client: openai.AsyncOpenAI) -> None:
    completion = await ask(client, "Hello")
    assert completion.choices[0].message.content == "ok"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "scripted"


async def test_streamed_pieces_join_to_what_the_whole_answer_says(client: openai.AsyncOpenAI) -> None:
    call = ScriptedCall("terminal", {"command": "echo 'hello, world' | tee out.txt"})
    text = marker(Step(content="Let me look.", reasoning="First the files.", tool_calls=(call, ScriptedCall("think", {}))))
    whole = (await ask(client, text)).choices[0]
    deltas = [chunk.choices[0].delta for chunk in await ask_streaming(client, text)]

    arguments: dict[int, str] = {}
    for piece in (piece for delta in deltas for piece in delta.tool_calls or ()):
        assert piece.function is not None
        arguments[piece.index] = arguments.get(piece.index, "") + (piece.function.arguments or "")
    assert "".join(delta.content or "" for delta in deltas) == whole.message.content == "Let me look."
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == "First the files."
    assert [json.loads(arguments[index]) for index in sorted(arguments)] == [call.arguments, {}]
    assert [json.loads(made.function.arguments) for made in whole.message.tool_calls or () if made.type == "function"] == [
        call.arguments,
        {},
    ]
    assert whole.finish_reason == "tool_calls"


async def test_usage_is_streamed_only_when_asked_for(client: openai.AsyncOpenAI) -> None:
    text = marker(Step(content="ok", usage=Usage(100, 20, cached_tokens=80, reasoning_tokens=5)))
    assert all(chunk.usage is None for chunk in await ask_streaming(client, text))
    last = (await ask_streaming(client, text, stream_options={"include_usage": True}))[-1]
    assert last.choices == []
    assert last.usage == (await ask(client, text)).usage
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (100, 20, 120)


async def test_usage_can_be_left_out_altogether(client: openai.AsyncOpenAI) -> None:
    text = marker(Step(content="ok", usage="omitted"))
    assert (await ask(client, text)).usage is None
    assert all(chunk.usage is None for chunk in await ask_streaming(client, text, stream_options={"include_usage": True}))


async def test_each_turn_takes_the_next_step_and_the_last_one_repeats(client: openai.AsyncOpenAI) -> None:
    steps = (Step(tool_calls=(ScriptedCall("think", {"thought": "hm"}),)), Step(content="Result: $LAST"))
    messages: list[Any] = [{"role": "user", "content": "Go. " + marker(Script(steps))}]
    answers = []
    for number in range(3):
        completion = await ask(client, "", messages=messages)
        answers.append(completion.choices[0].message.content)
        made = {"id": f"c{number}", "type": "function", "function": {"name": "think", "arguments": "{}"}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": f"result {number}"},
        ]
    assert answers == [None, "Result: result 0", "Result: result 1"]


async def test_the_latest_marker_counts_and_starts_anew(client: openai.AsyncOpenAI) -> None:
    made = {"id": "c", "type": "function", "function": {"name": "think", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "user", "content": marker(Step(content="first"))},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "user", "content": [{"type": "text", "text": marker(Script((Step(content="second"), Step(content="third"))))}]},
    ]
    assert (await ask(client, "", messages=messages)).choices[0].message.content == "second"


async def test_a_marker_inside_a_tool_call_is_for_whoever_is_called(client: openai.AsyncOpenAI) -> None:
    inner = marker(Step(content="from the child"))
    outer = marker(Step(tool_calls=(ScriptedCall("delegate", {"task": f"Please. {inner}"}),)))
    message = (await ask(client, outer)).choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].type == "function"
    task = json.loads(message.tool_calls[0].function.arguments)["task"]
    assert (await ask(client, task)).choices[0].message.content == "from the child"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ('{"steps": [{"contents": "typo"}]}', "steps.0.contents"),
        ('{"steps": []}', ""),
        ('{"steps": [{"tool_calls": [{"arguments": {}}]}]}', "steps.0.tool_calls.0.name"),
        ('{"steps": [{"status": "429"}]}', "steps.0.status"),
        ("{nonsense", ""),
        ('{"content": "ok"} and more', "and more"),
    ],
)
async def test_a_script_that_cannot_be_read_is_a_400_that_says_why(
    client: openai.AsyncOpenAI, script: str, complaint: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client, f"[[llm {script}]]")
    assert raised.value.code == "script_unreadable"
    assert complaint in raised.value.message


async def test_a_scripted_refusal_has_its_status_code_and_headers(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        await ask(client, marker(Step(status=429, error="Slow down.", code="rate_limit_exceeded", headers={"Retry-After": "7"})))
    assert (raised.value.code, raised.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "7")


async def test_a_cut_stream_ends_without_its_end_mark(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": marker(Step(tokens=20, drop_after=5))}], stream=True
    )
    received: list[str | None] = []
    with pytest.raises(httpx.RemoteProtocolError):
        async for chunk in stream:
            received.append(chunk.choices[0].delta.content)  # noqa: PERF401  # what came before the break is the point
    assert received == ["", "w0 ", "w1 ", "w2 ", "w3 "]


async def test_a_client_that_goes_away_is_noticed_while_its_answer_waits(llm: ScriptedLLM, client: openai.AsyncOpenAI) -> None:
    for text in (marker(Step(hang=True)), marker(Step(content="late", ttft_ms=60_000)), marker(Step(tokens=9, token_ms=60_000))):
        before = llm.traffic.disconnects
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_streaming, client, text)
            await llm.wait_until(lambda traffic: traffic.in_flight == 1)
            tasks.cancel_scope.cancel()
        await llm.wait_until(lambda traffic, before=before: (traffic.in_flight, traffic.disconnects) == (0, before + 1))  # type: ignore[misc]


async def test_a_complete_answer_is_not_taken_for_a_disconnect(llm: ScriptedLLM, client: openai.AsyncOpenAI) -> None:
    for _ in range(20):
        await ask_streaming(client, marker(Step(tokens=3, token_ms=0.1)))
        await ask(client, marker(Step(content="ok", ttft_ms=0.1)))
    await llm.wait_until(lambda traffic: traffic.in_flight == 0)
    assert (llm.traffic.received, llm.traffic.disconnects) == (40, 0)


async def test_a_gate_holds_a_stream_where_the_script_says(llm: ScriptedLLM, client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": marker(Step(content="one two three", gate=Gate("half", after=2)))}],
        stream=True,
    )
    received = []
    async for chunk in stream:
        received.append(chunk.choices[0].delta.content)
        if received == ["", "one "]:
            await llm.wait_until(lambda traffic: traffic.waiting_at("half") == 1)
            llm.open_gate("half")
    assert received == ["", "one ", "two ", "three", None]


async def test_a_barrier_opens_when_all_have_come(llm: ScriptedLLM, client: openai.AsyncOpenAI) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask, client, marker(Step(content="ok", gate=Gate("all here", opens_at=3))))
    assert llm.traffic.most_in_flight == 3


async def test_requests_are_kept_as_they_came(llm: ScriptedLLM, client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "terminal", "parameters": {"type": "object", "properties": {}}}}
    system = {"role": "system", "content": "Be brief."}
    user = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
    await ask(client, "", messages=[system, user], tools=[tool], temperature=0.5, extra_headers={"X-Trace": "abc"})
    (request,) = llm.traffic.requests
    assert request.body == {"model": "scripted", "messages": [system, user], "tools": [tool], "temperature": 0.5}
    assert (request.headers["x-trace"], request.headers["authorization"]) == ("abc", "Bearer irrelevant")
    assert (request.system_text, request.last_text, request.tools) == ("Be brief.", "Hello", ("terminal",))


async def test_a_director_answers_what_no_marker_does() -> None:
    def direct(request: ChatRequest) -> Step | None:
        return Step(content=f"Repeat: {request.last_text}") if "parrot" in request.system_text else None

    async with ScriptedLLM(direct=direct) as llm, openai.AsyncOpenAI(base_url=llm.base_url, api_key="irrelevant") as client:
        parrot: list[Any] = [{"role": "system", "content": "You are a parrot."}, {"role": "user", "content": "Hello"}]
        assert (await ask(client, "", messages=parrot)).choices[0].message.content == "Repeat: Hello"
        assert (await ask(client, "Hello")).choices[0].message.content == "ok"


async def test_waiting_for_what_does_not_come_says_what_came(llm: ScriptedLLM, client: openai.AsyncOpenAI) -> None:
    await ask(client, "Hello")
    with pytest.raises(TimeoutError, match="received=1"):
        await llm.wait_until(lambda traffic: traffic.received == 2, timeout_s=0.01)


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["scripted"]


async def test_a_body_that_is_no_object_is_refused(llm: ScriptedLLM) -> None:
    async with httpx.AsyncClient() as client:
        for content in (b"[]", b"{", b"\xff"):
            response = await client.post(f"{llm.base_url}/chat/completions", content=content)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request_error")


def test_in_a_thread_it_serves_and_is_watched_from_outside() -> None:
    with ScriptedLLM.in_thread(ttft_ms=0.1) as llm, openai.OpenAI(base_url=llm.base_url, api_key="irrelevant") as client:
        llm.open_gate("later")
        completion = client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": marker(Step(content="hi", gate="later"))}]
        )
        llm.block_until(lambda traffic: (traffic.received, traffic.in_flight) == (1, 0))
    assert completion.choices[0].message.content == "hi"


@pytest.fixture
def llm_process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "a2a_gateway.testing.scripted_llm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_as_a_process_it_prints_its_url_and_ends_on_sigterm(llm_process: subprocess.Popen[str]) -> None:
    assert llm_process.stdout is not None
    base_url = llm_process.stdout.readline().strip()
    root_url = base_url.removesuffix("/v1")
    before = time.monotonic_ns()
    body = {"model": "m", "messages": [{"role": "user", "content": marker(Step(content="hi", gate="g"))}]}
    assert httpx.post(f"{root_url}/gates/g").status_code == 200
    assert httpx.post(f"{base_url}/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "hi"
    traffic = httpx.get(f"{root_url}/traffic").json()
    assert before < traffic.pop("last_received_ns") < time.monotonic_ns()
    assert traffic == {"received": 1, "in_flight": 0, "most_in_flight": 1, "disconnects": 0, "last_disconnect_ns": 0}
    llm_process.terminate()
    assert llm_process.wait(timeout=20) == 0
