"""What a key may do, and that revoking it is immediate."""

import asyncio
from typing import Any

import pytest
from openai import APIStatusError

from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.model import SpendCaps
from a2a_gateway.testing.script import Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.limits import LimitPolicy
from tests.support.ask import call, delegation, user
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"
CHAT = "/v1/chat/completions"


async def test_a_key_sees_and_calls_only_its_agents(gateway: GatewayUnderTest) -> None:
    policy = LimitPolicy(allowed_agents=frozenset({"openhands_mute"}))
    _, secret = await asyncio.to_thread(gateway.create_key, "narrow", policy)
    async with gateway.client(key=secret) as client:
        assert [model.id for model in (await client.models.list()).data] == ["openhands_mute"]
        with pytest.raises(APIStatusError) as refused:
            await client.chat.completions.create(model=PRICED, messages=[user("Hi", Step(content="no"))])
    assert (refused.value.status_code, refused.value.code) == (403, "agent_not_allowed")


async def test_a_key_spends_no_more_than_its_budget_over_all_its_trees(gateway: GatewayUnderTest) -> None:
    _, secret = await asyncio.to_thread(gateway.create_key, "thrifty", None, SpendCaps(day_micro_usd=150_000))
    step = Step(content="ok", usage=Usage(100_000, 0))
    async with gateway.client(key=secret) as client:
        first = await client.chat.completions.with_raw_response.create(model=PRICED, messages=[user("One.", step)])
        await client.chat.completions.create(model=PRICED, messages=[user("Two.", step)])
        with pytest.raises(APIStatusError) as spent:
            await client.chat.completions.create(model=PRICED, messages=[user("Three.", step)])
    assert first.headers["x-a2a-budget-remaining-usd"] == "0.050000"
    assert (spent.value.status_code, spent.value.code) == (402, "budget_exceeded")


async def test_a_key_at_its_limits_is_told_when_to_come_again(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    limits = RequestLimits(max_concurrent_runs=1, requests_per_minute=2)
    _, secret = await asyncio.to_thread(gateway.create_key, "measured", None, None, limits)
    below = delegation("self", "Child.", Step(content="done"))  # which counts for neither limit

    def chat_body(task: str, *steps: Step) -> dict[str, Any]:
        return {"model": PRICED, "messages": [user(task, *steps)]}

    async with gateway.http(key=secret) as http:
        first = asyncio.create_task(
            http.post(CHAT, json=chat_body("First.", Step(tool_calls=(below,), gate="measured"), Step(content="ok")))
        )
        await llm.wait_until(lambda traffic: traffic.waiting_at("measured") == 1)
        beside = await http.post(CHAT, json=chat_body("Beside.", Step(content="no")))
        llm.open_gate("measured")
        answers = [await first, await http.post(CHAT, json=chat_body("Second.", Step(content="ok")))]
        too_many = await http.post(CHAT, json=chat_body("Third.", Step(content="no")))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["usage"]["delegation"]["runs"] == 2
    for refused, details in ((beside, {"max_concurrent_runs": 1}), (too_many, {"requests_per_minute": 2})):
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], refused.headers["x-should-retry"]) == (429, "capacity_exceeded", "true")
        assert error["details"] == {"scope": "key", **details}
        assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_a_keys_depth_binds_its_whole_tree(gateway: GatewayUnderTest) -> None:
    _, secret = await asyncio.to_thread(gateway.create_key, "shallow", LimitPolicy(max_depth=0))
    steps = (Step(tool_calls=(delegation("self", "Child.", Step(content="no")),)), Step(content="alone"))
    async with gateway.client(key=secret) as client:
        completion = await client.chat.completions.create(model=PRICED, messages=[user("Delegate.", *steps)])
    assert completion.usage is not None
    assert completion.usage.model_dump()["delegation"] | {"run_id": "", "tree_id": ""} == {
        "run_id": "",
        "tree_id": "",
        "depth": 0,
        "max_depth": 0,
        "runs": 1,
        "turns": 2,
        "stop_reason": "finished",
        "budget": "10.000000",
        "remaining": completion.usage.model_dump()["delegation"]["remaining"],
        "tree_tokens": {"prompt": completion.usage.prompt_tokens, "completion": completion.usage.completion_tokens},
    }


async def test_a_revoked_key_is_refused_at_once_and_stops_the_runs_it_started(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    record, secret = await asyncio.to_thread(gateway.create_key, "brief", LimitPolicy())
    steps = (Step(tool_calls=(call("terminal", command="true"),), gate="revocation"), Step(content="never"))
    async with gateway.client(key=secret) as client:
        running = asyncio.create_task(client.chat.completions.create(model=PRICED, messages=[user("Work.", *steps)]))
        await llm.wait_until(lambda traffic: traffic.waiting_at("revocation") == 1)
        store = gateway.running.gateway.started.result().store
        await asyncio.to_thread(gateway.portal.call, store.keys.revoke, record.name)
        with pytest.raises(APIStatusError) as refused:
            await client.models.list()
        llm.open_gate("revocation")
        with pytest.raises(APIStatusError) as stopped:
            await running
    assert (refused.value.status_code, refused.value.code) == (401, "invalid_api_key")
    assert stopped.value.code == "run_cancelled"


async def test_a_key_sees_only_its_own_runs(gateway: GatewayUnderTest) -> None:
    _, secret = await asyncio.to_thread(gateway.create_key, "nosy", LimitPolicy())
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=PRICED, messages=[user("Secret.", Step(content="ok"))])
    run_id = completion.id.removeprefix("chatcmpl-")
    async with gateway.http(key=secret) as http:
        answers = [
            await http.get(f"/v1/runs/{run_id}"),
            await http.get(f"/v1/runs/{run_id}/tree"),
            await http.post(f"/v1/runs/{run_id}/cancel"),
        ]
        listed = (await http.get("/v1/runs")).json()["data"]
    assert [answer.json()["error"]["code"] for answer in answers] == ["run_not_found"] * 3
    assert listed == []
