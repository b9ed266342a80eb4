"""`GET /v1/profiles`: the operator sees files and problems; agents, peers and restricted keys do not."""

import asyncio

import pytest

from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.limits import LimitPolicy
from tests.interaction.conftest import PROFILES
from tests.support.ask import user
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio


async def test_a_key_sees_the_profiles_with_their_files_and_what_is_wrong(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        listed = (await http.get("/v1/profiles")).json()
    named = {profile["name"]: profile for profile in listed["data"]}
    assert named.keys() == {"default", *PROFILES}
    priced = named["priced"]
    assert priced["source"] == str(gateway.data_dir / "profiles" / "priced.md")
    assert (priced["id"], priced["llm"], priced["price_source"]) == ("openhands_priced", "openai/scripted", "configured")
    assert str(gateway.data_dir / "profiles") in listed["directories"]


async def test_neither_an_agent_nor_a_restricted_key_sees_profiles(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    policy = LimitPolicy(allowed_agents=frozenset({"openhands_priced"}))
    _, restricted = await asyncio.to_thread(gateway.create_key, "restricted", policy)
    async with gateway.client() as client, gateway.http(restricted) as http:
        asked = user("profiles", Step(content="done", gate="profiles"))
        running = asyncio.create_task(client.chat.completions.create(model="openhands_priced", messages=[asked]))
        await llm.wait_until(lambda traffic: traffic.waiting_at("profiles") == 1)
        service = gateway.running.gateway.started.result().service
        [live] = service.live_runs
        async with gateway.http(service.tokens.mint(live.record)) as agent:
            answers = [await each.get("/v1/profiles") for each in (http, agent)]
            may_list = (await agent.get("/v1/models")).status_code
        llm.open_gate("profiles")
        await running
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(403, "admission_refused")] * 2
    assert may_list == 200
