"""What the LLM is sent: the history, the sampling, the tools; and what never reaches it."""

import pytest

from a2a_gateway.runs.events import Finished
from a2a_gateway.runs.messages import AssistantMessage, Sampling, SystemMessage, TextPart, ToolCall, ToolMessage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.masking import HIDDEN
from delegate_tool.protocol.context import DelegationBinding
from tests.agents.driver import API_KEY, Driver, script, sent, text_of, user

pytestmark = pytest.mark.anyio


async def test_the_whole_history_reaches_the_llm_as_turns_and_system_text_as_systemtext_of(
    driver: Driver, llm: ScriptedLLM
) -> None:
    call = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
    await driver.run(
        SystemMessage((TextPart("Be terse."),)),
        user("first"),
        AssistantMessage((TextPart("one"),)),
        user("weather?"),
        AssistantMessage((), (call,)),
        ToolMessage("c1", (TextPart("rain"),)),
        AssistantMessage((TextPart("It rains."),)),
        user("and now?"),
    )
    system, *rest = sent(llm)["messages"]
    assert "Be terse." in str(system["content"])
    flat = [(message["role"], message.get("tool_call_id"), text_of(message)) for message in rest]
    assert flat == [
        ("user", None, "first"),
        ("assistant", None, "one"),
        ("user", None, "weather?"),
        ("assistant", None, ""),
        ("tool", "c1", "rain"),
        ("assistant", None, "It rains."),
        ("user", None, "and now?"),
    ]
    assert rest[3]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}


async def test_a_tool_result_as_the_last_message_goes_on_without_a_new_user_message(driver: Driver, llm: ScriptedLLM) -> None:
    call = ToolCall("c1", "get_weather", "{}")
    ran = await driver.run(user("weather?"), AssistantMessage((), (call,)), ToolMessage("c1", (TextPart("rain"),)))
    assert ran.outcome == Finished("ok")
    assert [message["role"] for message in sent(llm)["messages"]] == ["system", "user", "assistant", "tool"]


async def test_a_message_longer_than_the_sdk_s_limit_is_not_cut(driver: Driver, llm: ScriptedLLM) -> None:
    long = "x" * 200_000
    await driver.run(user(long))
    assert text_of(sent(llm)["messages"][-1]) == long


async def test_sampling_is_honoured(driver: Driver, llm: ScriptedLLM) -> None:
    sampling = Sampling(temperature=0.3, top_p=0.9, max_output_tokens=77, stop=("END",), seed=5)
    await driver.run(user("hi"), sampling=sampling)
    body = sent(llm)
    names = ("temperature", "top_p", "max_completion_tokens", "stop", "seed")
    assert {name: body.get(name) for name in names} == {
        "temperature": 0.3,
        "top_p": 0.9,
        "max_completion_tokens": 77,
        "stop": ["END"],
        "seed": 5,
    }


async def test_the_delegation_tool_is_offered_only_to_a_run_that_may_delegate(driver: Driver, llm: ScriptedLLM) -> None:
    await driver.run(user("hi"))
    binding = DelegationBinding("http://127.0.0.1:9/v1", "token-0123456789", "run", "openhands_scripted")
    await driver.run(user("hi"), binding=binding)
    offered = [{tool["function"]["name"] for tool in request.body["tools"]} for request in llm.traffic.requests]
    assert offered[1] - offered[0] == {"delegate"}
    assert {"terminal", "finish", "think"} <= offered[0]


async def test_neither_the_key_nor_the_run_s_token_reaches_the_llm_or_the_caller(driver: Driver, llm: ScriptedLLM) -> None:
    token = "run-token-0123456789"
    binding = DelegationBinding("http://127.0.0.1:9/v1", token, "run", "openhands_scripted")
    ran = await driver.run(script({"content": f"key {API_KEY} token {token}"}), binding=binding)
    assert ran.outcome == Finished(f"key {HIDDEN} token {HIDDEN}")
    assert not any(secret in ran.ended.transcript for secret in (API_KEY, token))
    prompt = str([message for message in sent(llm)["messages"] if message["role"] == "system"])
    assert token not in prompt + str(sent(llm)["tools"])
