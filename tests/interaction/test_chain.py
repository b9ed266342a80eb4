"""Three gateways in a chain: A forwards to B, whose agents call C's; and what goes wrong between them."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from openai import APIStatusError
from pydantic import SecretStr

from a2a_gateway.settings import PeerSettings
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, content_of, delegation, direct, user
from tests.support.gateway import GatewayUnderTest, gateway_in_thread, scripted_environ

pytestmark = pytest.mark.anyio

LEAD = """---
name: lead
description: Leads.
tools: [delegate]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You lead."""
CENT = Usage(10_000, 0)


@dataclass(frozen=True)
class Chain:
    a: GatewayUnderTest
    b: GatewayUnderTest
    c: GatewayUnderTest
    llm: ScriptedLLM


def peer(name: str, gateway: GatewayUnderTest, **settings: Any) -> PeerSettings:
    return PeerSettings(id=name, base_url=gateway.base_url, api_key=SecretStr(gateway.key), **settings)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Gateways that wait for lost clients longer than any test: what ends at once was cancelled by name."""
    home = tmp_path_factory.mktemp("chain")

    def begin(stack: ExitStack, name: str, llm: ScriptedLLM, *peers: PeerSettings) -> GatewayUnderTest:
        directory = home / name
        (directory / "test-profiles").mkdir(parents=True)
        (directory / "test-profiles" / "lead.md").write_text(LEAD)
        environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(directory / "openhands"))
        options = {"gateway_id": f"gateway-{name}", "peers": peers, "disconnect_grace_s": 60, "shell_pool_size": 0}
        return stack.enter_context(gateway_in_thread(directory, environ, **options))

    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread(direct=direct))
        c = begin(stack, "c", llm)
        b = begin(stack, "b", llm, peer("c", c))
        down = PeerSettings(id="down", base_url="http://127.0.0.1:9/v1", api_key=SecretStr("none"))
        bare = PeerSettings(id="bare", base_url=llm.base_url, api_key=SecretStr("sk-scripted-secret-0123456789"), opaque=True)
        a = begin(stack, "a", llm, peer("b", b), down, bare)
        yield Chain(a, b, c, llm)


async def ask(gateway: GatewayUnderTest, model: str, message: Any, **headers: str) -> tuple[str, dict[str, Any]]:
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=model, messages=[message], extra_headers=headers)
    assert completion.usage is not None
    return completion.choices[0].message.content or "", completion.usage.model_dump()


async def test_the_agents_of_a_peer_are_models_here_and_those_of_one_that_is_down_are_not(chain: Chain) -> None:
    async with chain.a.client() as client:
        listed = {model.id: model.owned_by for model in (await client.models.list()).data}
        described = await client.models.retrieve("b/openhands_lead")
        with pytest.raises(APIStatusError) as down:
            await client.chat.completions.create(model="down/openhands_x", messages=[user("Hi", Step(content="no"))])
        with pytest.raises(APIStatusError) as unknown:
            await client.chat.completions.create(model="b/openhands_nobody", messages=[user("Hi", Step(content="no"))])
    assert listed["b/openhands_lead"] == "b"
    assert listed["openhands_lead"] == "openhands"
    assert not any(name.startswith("down/") for name in listed)
    assert described.model_dump()["description"] == "Leads."
    assert (down.value.status_code, down.value.code) == (503, "peer_unavailable")
    assert unknown.value.code == "model_not_found"


async def test_a_tree_over_three_gateways_adds_up_to_the_cent(chain: Chain) -> None:
    hops = {"role": "user", "content": "hop b/openhands_lead c/openhands_lead"}
    text, usage = await ask(chain.a, "openhands_lead", hops, **{"X-A2A-Budget-USD": "1"})
    assert "end of the line" in text
    assert usage["cost_details"] | {"by_agent": None} == {
        "self": "0.020000",
        "descendants": "0.030000",
        "currency": "USD",
        "complete": True,
        "by_agent": None,
    }
    assert [(line["model"], line["cost"]) for line in usage["cost_details"]["by_agent"]] == [("b/openhands_lead", "0.030000")]
    assert usage["delegation"]["runs"] == 3
    async with chain.a.http() as at_a, chain.b.http() as at_b, chain.c.http() as at_c:
        (child,) = (await at_a.get(f"/v1/runs/{usage['delegation']['run_id']}/tree")).json()["children"]
        run_b = (await at_b.get(f"/v1/runs/{child['remote_run_id']}/tree")).json()
        run_c = (await at_c.get(f"/v1/runs/{run_b['children'][0]['remote_run_id']}")).json()
    assert [(run["depth"], run["cost"]["tree"]) for run in (child, run_b, run_b["children"][0], run_c)] == [
        (1, "0.030000"),
        (1, "0.030000"),
        (2, "0.010000"),
        (2, "0.010000"),
    ]
    assert float(run_c["limits"]["budget_usd"]) < float(run_b["limits"]["budget_usd"]) < 1
    assert child["cost"]["reserved"] == "0.000000"


async def test_what_a_far_agent_says_streams_through_both_gateways_as_it_comes(chain: Chain) -> None:
    message = user("Stream.", Step(content="One two three.", gate=Gate("far", after=2)))
    async with chain.a.client() as client:
        stream = await client.chat.completions.create(model="b/openhands_lead", messages=[message], stream=True)
        first = [await anext(stream), await anext(stream)]
        assert content_of(first)
        chain.llm.open_gate("far")
        rest = [chunk async for chunk in stream]
    assert content_of([*first, *rest]) == "One two three."


async def test_a_client_that_cancels_at_a_stops_the_llm_call_of_c(chain: Chain) -> None:
    deepest = delegation("c/openhands_lead", "At C.", Step(content="no", gate="at-c"))
    middle = delegation("b/openhands_lead", "At B.", Step(tool_calls=(deepest,)), Step(content="never"))
    message = user("At A.", Step(tool_calls=(middle,)), Step(content="never"))
    async with chain.a.client() as client, chain.a.http() as http:
        asking = asyncio.create_task(
            client.chat.completions.create(
                model="openhands_lead", messages=[message], extra_headers={"Idempotency-Key": "cancel-at-c"}
            )
        )
        await chain.llm.wait_until(lambda traffic: traffic.waiting_at("at-c") == 1)
        before, gone = chain.llm.traffic.received, chain.llm.traffic.disconnects
        await http.post("/v1/runs/cancel", headers={"Idempotency-Key": "cancel-at-c"})
        await chain.llm.wait_until(lambda traffic: traffic.disconnects == gone + 1)
        with pytest.raises(APIStatusError) as cancelled:
            await asking
    assert cancelled.value.code == "run_cancelled"
    assert chain.llm.traffic.received == before


async def test_a_refusal_of_a_peer_and_its_failures_have_their_own_words(chain: Chain) -> None:
    async with chain.a.client() as client:
        create = client.chat.completions.create
        with pytest.raises(APIStatusError) as too_deep:
            await create(
                model="b/openhands_lead",
                messages=[user("Deep.", Step(content="no"))],
                extra_headers={"X-A2A-Depth": "3", "X-A2A-Max-Depth": "2"},
            )
        with pytest.raises(APIStatusError) as failed:
            await create(model="b/openhands_lead", messages=[user("Fail.", Step(status=400, error="no such thing"))])
    assert too_deep.value.code == "delegation_depth_exceeded"
    assert (failed.value.status_code, failed.value.code) == (400, "llm_bad_request")
    assert "The peer b answered" in failed.value.message


async def test_a_plain_endpoint_is_a_leaf_whose_cost_is_not_known(chain: Chain) -> None:
    text, usage = await ask(chain.a, "bare/scripted", user("Plain.", Step(content="No agent here.")))
    assert text == "No agent here."
    assert usage["cost_details"]["complete"] is False
    assert "x-a2a-via" not in chain.llm.traffic.requests[-1].headers


async def test_a_conversation_with_a_peers_agent_goes_on(chain: Chain) -> None:
    async with chain.a.client() as client:
        create = client.chat.completions.with_raw_response.create
        first = await create(model="b/openhands_lead", messages=[user("My name is Ada.", Step(content="Hello."))])
        header = {"X-OpenHands-ServerConversation-ID": first.headers["X-OpenHands-ServerConversation-ID"]}
        await create(model="b/openhands_lead", messages=[user("Again.", Step(content="Yes."))], extra_headers=header)
    assert "My name is Ada." in str(chain.llm.traffic.requests[-1].messages)


async def test_a_request_that_goes_in_a_circle_is_refused(chain: Chain) -> None:
    async with chain.b.client() as client:
        with pytest.raises(APIStatusError) as circle:
            await client.chat.completions.create(
                model="openhands_lead", messages=[user("Round.", Step(content="no"))], extra_headers={"X-A2A-Via": "x,gateway-b"}
            )
    assert (circle.value.status_code, circle.value.code) == (508, "gateway_loop_detected")


async def test_a_peer_may_use_no_more_than_was_set_aside(chain: Chain) -> None:
    burning = call("delegate", agent="b/openhands_lead", task="burn 1")
    steps = Step(tool_calls=(burning,), usage=CENT), Step(content="done", usage=Usage(1_000, 1))
    _, usage = await ask(chain.a, "openhands_lead", user("Burn.", *steps), **{"X-A2A-Budget-USD": "0.05"})
    assert 0.02 < usage["cost"] <= 0.05
