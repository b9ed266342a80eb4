"""Stateless by default; with the conversation's id, history and workspace go on."""

import asyncio
from pathlib import Path

import pytest
from openai import APIStatusError

from a2a_gateway.testing.script import Step, Usage, text_of
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.until import until

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"
CONVERSATION = "X-OpenHands-ServerConversation-ID"


def run_in_terminal(command: str) -> tuple[Step, ...]:
    return (Step(tool_calls=(call("terminal", command=command),)), Step(content="done"))


async def test_a_conversation_goes_on_with_its_history_and_its_workspace(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        first = await client.chat.completions.with_raw_response.create(
            model=PRICED, messages=[user("Remember the file.", *run_in_terminal("echo kept > note.txt"))]
        )
        header = {CONVERSATION: first.headers[CONVERSATION]}
        steps = (
            Step(tool_calls=(call("terminal", command="cat note.txt"),), usage=Usage(10, 0)),
            Step(content="It has $LAST", usage=Usage(20, 0)),
        )
        second = await client.chat.completions.with_raw_response.create(
            model=PRICED, messages=[user("conversation-test: what is in it?", *steps)], extra_headers=header
        )
    assert second.headers[CONVERSATION] == first.headers[CONVERSATION]
    completion = second.parse()
    assert "kept" in (completion.choices[0].message.content or "")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 30  # this request only
    sent = next(request for request in llm.traffic.requests if "conversation-test" in request.last_text)
    assert [message["role"] for message in sent.messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert text_of(sent.messages[1]).startswith("Remember the file.")


async def test_a_client_that_sends_the_whole_history_again_does_not_double_it(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    opening = user("Hello.", Step(content="Hi!"))
    async with gateway.client() as client:
        first = await client.chat.completions.with_raw_response.create(model=PRICED, messages=[opening])
        history = [opening, {"role": "assistant", "content": "Hi!"}, user("resent-test", Step(content="Yes."))]
        await client.chat.completions.create(
            model=PRICED, messages=history, extra_headers={CONVERSATION: first.headers[CONVERSATION]}
        )
    sent = next(request for request in llm.traffic.requests if "resent-test" in request.last_text)
    assert [message["role"] for message in sent.messages] == ["system", "user", "assistant", "user"]


async def test_two_requests_on_one_conversation_run_one_after_the_other(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        first = await client.chat.completions.with_raw_response.create(
            model=PRICED, messages=[user("Begin.", Step(content="ok"))]
        )
        header = {CONVERSATION: first.headers[CONVERSATION]}
        gated = user("slow one", Step(content="slow answer", gate="one-after-the-other"))
        slow = asyncio.create_task(client.chat.completions.create(model=PRICED, messages=[gated], extra_headers=header))
        await llm.wait_until(lambda traffic: traffic.waiting_at("one-after-the-other") == 1)
        quick_message = user("quick one", Step(content="quick answer"))
        quick = asyncio.create_task(client.chat.completions.create(model=PRICED, messages=[quick_message], extra_headers=header))
        live_runs = gateway.running.gateway.started.result().service.live_runs
        await until(lambda: sum(live.record.conversation_id == first.headers[CONVERSATION] for live in live_runs) == 2)
        llm.open_gate("one-after-the-other")
        answers = [(await task).choices[0].message.content for task in (slow, quick)]
    assert answers == ["slow answer", "quick answer"]
    sent = next(request for request in llm.traffic.requests if request.last_text.startswith("quick one"))
    assert [text_of(message) for message in sent.messages if message["role"] == "assistant"] == ["ok", "slow answer"]


async def test_an_unknown_or_foreign_conversation_is_a_404(gateway: GatewayUnderTest) -> None:
    from delegate_tool.protocol.limits import LimitPolicy

    _, other_key = await asyncio.to_thread(gateway.create_key, "other", LimitPolicy())
    async with gateway.client() as client, gateway.client(key=other_key) as other:
        mine = await client.chat.completions.with_raw_response.create(model=PRICED, messages=[user("Mine.", Step(content="ok"))])
        header = {CONVERSATION: mine.headers[CONVERSATION]}
        seen = []
        for caller, model, headers in (
            (other, PRICED, header),
            (client, "openhands_mute", header),
            (client, PRICED, {CONVERSATION: "00000000-0000-4000-8000-000000000000"}),
        ):
            with pytest.raises(APIStatusError) as refused:
                await caller.chat.completions.create(
                    model=model, messages=[user("Hi", Step(content="no"))], extra_headers=headers
                )
            seen.append((refused.value.status_code, refused.value.code))
    assert seen == [(404, "conversation_not_found")] * 3


async def test_runs_do_not_share_a_workspace_unless_they_share_a_conversation(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client:
        await client.chat.completions.create(model=PRICED, messages=[user("Write.", *run_in_terminal("touch mine.txt; ls"))])
        steps = (Step(tool_calls=(call("terminal", command="ls -A | wc -l"),)), Step(content="$LAST"))
        completion = await client.chat.completions.create(model=PRICED, messages=[user("List.", *steps)])
    assert (completion.choices[0].message.content or "").startswith("0")


async def test_without_retention_nothing_of_a_run_stays(tmp_path: Path) -> None:
    with scripted_gateway(tmp_path, conversation_ttl_s=0) as (gateway, _):
        async with gateway.client() as client:
            model = "openhands_default"
            raw = await client.chat.completions.with_raw_response.create(
                model=model, messages=[user("Write.", *run_in_terminal("touch mine.txt"))]
            )
            for live in gateway.running.gateway.started.result().service.live_runs:
                await asyncio.to_thread(gateway.portal.call, live.closed.wait)
            assert list((tmp_path / "workspaces").iterdir()) == []
            with pytest.raises(APIStatusError) as gone:
                await client.chat.completions.create(
                    model=model,
                    messages=[user("Hi", Step(content="no"))],
                    extra_headers={CONVERSATION: raw.headers[CONVERSATION]},
                )
    assert gone.value.code == "conversation_not_found"


async def test_a_conversation_goes_on_in_its_workspace_after_the_data_directory_was_moved(tmp_path: Path) -> None:
    before, after, model = tmp_path / "before", tmp_path / "after", "openhands_default"
    with scripted_gateway(before) as (gateway, _):
        key, message = gateway.key, user("Write.", *run_in_terminal("echo kept > note.txt"))
        async with gateway.client() as client:
            first = await client.chat.completions.with_raw_response.create(model=model, messages=[message])
    before.rename(after)
    with scripted_gateway(after) as (gateway, _):
        steps = (Step(tool_calls=(call("terminal", command="cat note.txt"),)), Step(content="$LAST"))
        async with gateway.client(key) as client:
            second = await client.chat.completions.create(
                model=model, messages=[user("Read.", *steps)], extra_headers={CONVERSATION: first.headers[CONVERSATION]}
            )
    assert (second.choices[0].message.content or "").startswith("kept")
    assert not before.exists()
    assert len(list((after / "workspaces").iterdir())) == 1


async def test_a_conversation_whose_data_directory_was_moved_expires_with_its_workspace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, after, model = tmp_path / "before", tmp_path / "after", "openhands_default"
    with scripted_gateway(before, conversation_ttl_s=1e-6) as (gateway, _):
        async with gateway.client() as client:
            await client.chat.completions.create(model=model, messages=[user("Write.", *run_in_terminal("touch note.txt"))])
    before.rename(after)
    with scripted_gateway(after):
        await until(lambda: not list((after / "workspaces").iterdir()))  # swept in the background, at once
    assert "failed" not in caplog.text
    assert not before.exists()
