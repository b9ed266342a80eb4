"""A conversation that goes on in a later run."""

import pytest

from a2a_gateway.runs.events import Cancelled, Finished, RunnerEvent, ToolStarted
from a2a_gateway.runs.messages import AssistantMessage, ImagePart, SystemMessage, TextPart, UserMessage
from a2a_gateway.runs.model import AdmittedRun
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.agents.driver import Driver, script, sent, think, user

pytestmark = pytest.mark.anyio


async def test_a_conversation_goes_on_where_it_was_and_what_is_sent_again_is_not_doubled(
    driver: Driver, llm: ScriptedLLM
) -> None:
    first = script(think(), {"content": "one"}, text="first")
    system = SystemMessage((TextPart("Be terse."),))
    before = await driver.run(system, first)
    again = [user("second")], [system, first, AssistantMessage((TextPart("one"),)), user("second")]
    seen = []
    for messages in again:
        ran = await driver.run(*messages, transcript=before.ended.transcript)
        assert ran.outcome == Finished("one")
        seen.append(sent(llm)["messages"])
    assert [message["role"] for message in seen[0]] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert "Be terse." in str(seen[0][0])
    assert seen[0] == seen[1]


async def test_a_cancelled_conversation_can_go_on(driver: Driver, llm: ScriptedLLM) -> None:
    async def cancel(run: AdmittedRun, event: RunnerEvent) -> None:
        if isinstance(event, ToolStarted):
            await driver.runner.cancel(run.record.id)

    slow = {"tool_calls": [{"name": "terminal", "arguments": {"command": "sleep 30"}}]}
    before = await driver.run(script(slow), watch=cancel)
    assert before.outcome == Cancelled("")
    after = await driver.run(script({"content": "on we go"}), transcript=before.ended.transcript)
    assert after.outcome == Finished("on we go")
    messages = sent(llm)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "user"]


async def test_a_run_that_could_not_begin_keeps_the_conversation(driver: Driver) -> None:
    before = await driver.run(script({"content": "one"}))
    picture = UserMessage((ImagePart("https://example.org/a.png"),))
    ran = await driver.run(picture, transcript=before.ended.transcript)
    assert (ran.code, ran.ended.transcript) == ("unsupported_parameter", before.ended.transcript)
