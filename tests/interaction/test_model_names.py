"""Names of models: the prefix may be left out, and an unknown name is answered with the nearest that may be called."""

import asyncio
from typing import Any

import pytest
from openai import APIStatusError

from a2a_gateway.testing.script import Step
from delegate_tool.protocol.limits import LimitPolicy
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


async def test_a_name_without_the_prefix_is_the_same_agent_under_its_full_name(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client:
        first = await client.chat.completions.with_raw_response.create(
            model="priced", messages=[user("One.", Step(content="one"))], extra_headers={"X-A2A-Allowed-Agents": "priced"}
        )
        conversation = {"X-OpenHands-ServerConversation-ID": first.headers["x-openhands-serverconversation-id"]}
        second = await client.chat.completions.create(
            model="openhands_priced", messages=[user("Two.", Step(content="two"))], extra_headers=conversation
        )
        described = await client.models.retrieve("priced")
    assert (first.parse().model, second.model, described.id) == ("openhands_priced",) * 3
    async with gateway.http() as http:
        run = (await http.get(f"/v1/runs/{first.headers['x-a2a-run-id']}")).json()
    assert (run["agent"], run["limits"]["allowed_agents"]) == ("openhands_priced", ["openhands_priced"])


async def test_an_agent_delegates_to_a_name_without_the_prefix(gateway: GatewayUnderTest) -> None:
    steps = (Step(tool_calls=(delegation("mute", "Child.", Step(content="done")),)), Step(content="ok"))
    async with gateway.client() as client:
        answer = await client.chat.completions.create(model="priced", messages=[user("Delegate.", *steps)])
    assert answer.usage is not None
    by_agent = answer.usage.model_dump()["cost_details"]["by_agent"]
    assert [child["model"] for child in by_agent] == ["openhands_mute"]


async def test_the_prefix_opens_no_agent_that_the_key_may_not_call(gateway: GatewayUnderTest) -> None:
    _, secret = await asyncio.to_thread(gateway.create_key, "prefixed", LimitPolicy(allowed_agents=frozenset({"openhands_mute"})))
    async with gateway.client(key=secret) as client:
        with pytest.raises(APIStatusError) as refused:
            await client.chat.completions.create(model="priced", messages=[user("Hi", Step(content="no"))])
        with pytest.raises(APIStatusError) as hidden:
            await client.models.retrieve("priced")
    assert (refused.value.code, hidden.value.code) == ("agent_not_allowed", "model_not_found")


async def test_an_unknown_name_is_answered_with_the_nearest_that_the_key_may_call(gateway: GatewayUnderTest) -> None:
    _, narrow = await asyncio.to_thread(gateway.create_key, "near", LimitPolicy(allowed_agents=frozenset({"openhands_mute"})))

    async def message_for(model: str, key: str | None = None) -> Any:
        async with gateway.http(key) as http:
            error = (await http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": "Hi"}]})).json()[
                "error"
            ]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        return error["message"]

    assert "did you mean openhands_priced?" in await message_for("openhands_pricd")
    assert "did you mean openhands_priced?" in await message_for("prised")
    assert "priced" not in (await message_for("openhands_pricd", narrow)).replace("pricd", "")
    assert "did you mean" not in await message_for("gpt-4o")
