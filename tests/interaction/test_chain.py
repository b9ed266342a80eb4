"""Three gateways in a chain: A forwards to B, whose agents call C's; and what goes wrong between them."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from openai import APIError, APIStatusError
from pydantic import SecretStr

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.runs.model import SpendCaps
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, content_of, delegation, direct, user
from tests.support.gateway import GatewayUnderTest, free_port, gateway_in_thread, scripted_environ
from tests.support.until import until

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


async def make_key(data_dir: Path) -> str:
    """Make a key of a gateway that has not started yet."""
    async with open_store(sqlite_url(data_dir / "gateway.db"), SystemClock()) as store:
        _, secret = await store.keys.create_key("back")
        return secret


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Gateways that wait for lost clients longer than any test: what ends at once was cancelled by name.

    C has B as its peer, too, so a request can go in a circle.
    """
    home = tmp_path_factory.mktemp("chain")

    def begin(stack: ExitStack, name: str, llm: ScriptedLLM, *peers: PeerSettings, **settings: Any) -> GatewayUnderTest:
        directory = home / name
        (directory / "test-profiles").mkdir(parents=True, exist_ok=True)
        (directory / "test-profiles" / "lead.md").write_text(LEAD)
        environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(directory / "openhands"))
        options = {"gateway_id": f"gateway-{name}", "peers": peers, "disconnect_grace_s": 60, "shell_pool_size": 0, **settings}
        return stack.enter_context(gateway_in_thread(directory, environ, **options))

    (home / "b").mkdir()
    port, key = free_port(), anyio.run(make_key, home / "b")
    back = PeerSettings(id="back", base_url=f"http://127.0.0.1:{port}/v1", api_key=SecretStr(key))
    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread(direct=direct))
        c = begin(stack, "c", llm, back, peer_refresh_s=0.5)
        of_c = frozenset({"openhands_lead", "back/openhands_lead"})
        b = replace(begin(stack, "b", llm, peer("c", c, agents=of_c), port=port, peer_refresh_s=0.5), key=key)
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


@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_llm_of_a_far_agent_does_not_take_is_named_here(chain: Chain, stream: bool) -> None:
    asked = {"stop": ["1", "2", "3", "4", "5"], "user": "ada", "stream": stream, "messages": [user("Hi", Step(content="ho"))]}
    async with chain.a.http() as http:
        answer = await http.post("/v1/chat/completions", json={"model": "b/openhands_lead", **asked})
    assert (answer.status_code, answer.headers["x-a2a-ignored"]) == (200, "stop, user")


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
    async with chain.a.http() as http:
        tree = (await http.get(f"/v1/runs/{usage['delegation']['run_id']}/tree")).json()
    line = [tree, tree["children"][0], tree["children"][0]["children"][0]]
    assert [(run["agent"], run["gateway"], run["depth"], run["cost"]["self"], run["cost"]["tree"]) for run in line] == [
        ("openhands_lead", "gateway-a", 0, "0.020000", "0.050000"),
        ("b/openhands_lead", "gateway-b", 1, "0.020000", "0.030000"),
        ("c/openhands_lead", "gateway-c", 2, "0.010000", "0.010000"),
    ]
    budgets = [float(run["limits"]["budget_usd"]) for run in line]
    assert 1 == budgets[0] > budgets[1] > budgets[2] > 0
    assert {run["cost"]["reserved"] for run in line} == {"0.000000"}


async def test_money_that_was_spent_before_a_failure_in_mid_stream_is_counted(chain: Chain) -> None:
    steps = (
        Step(content="Working.", tool_calls=(call("delegate", agent="missing", task="x"),), usage=CENT),
        Step(status=400, error="broken"),
    )
    async with chain.a.client() as client, chain.a.http() as http:
        stream = await client.chat.completions.create(
            model="b/openhands_lead", messages=[user("Fail late.", *steps)], stream=True
        )
        with pytest.raises(APIError) as failed:
            [chunk async for chunk in stream]
        body: Any = failed.value.body
        run = (await http.get(f"/v1/runs/{body['details']['run_id']}")).json()
    assert failed.value.code == "llm_bad_request"
    assert body["details"]["cost_usd"] == "0.010000"
    assert (run["agent"], run["cost"]["tree"], run["cost"]["complete"]) == ("b/openhands_lead", "0.010000", True)


async def test_agents_on_peers_work_side_by_side_each_with_a_share_of_the_budget(chain: Chain) -> None:
    barrier = Gate("side-by-side", opens_at=3)
    calls = [delegation("b/openhands_lead", f"Part {n}.", Step(content=f"part {n}", gate=barrier)) for n in range(3)]
    message = user("Split.", Step(tool_calls=tuple(calls)), Step(content="all done"))
    text, usage = await ask(chain.a, "openhands_lead", message)
    assert text == "all done"
    assert usage["delegation"]["runs"] == 4


async def _is_running(http: httpx.AsyncClient, idempotency_key: str) -> None:
    """Wait until the run of a key has begun; there is no signal, so it is polled."""
    states: list[str] = []
    while states != ["running"]:
        found = (await http.get("/v1/runs", params={"idempotency_key": idempotency_key})).json()["data"]
        states = [run["state"] for run in found]


async def test_a_run_that_waits_for_money_held_elsewhere_goes_on_or_is_cancelled(chain: Chain) -> None:
    _, key = chain.a.create_key("capped", caps=SpendCaps(total_micro_usd=500_000))
    async with chain.a.client(key) as client, chain.a.http(key) as http:

        def begin(text: str, step: Step) -> asyncio.Task[Any]:
            asked = client.chat.completions.create(
                model="b/openhands_lead", messages=[user(text, step)], extra_headers={"Idempotency-Key": text}
            )
            return asyncio.create_task(asked)

        first = begin("first", Step(content="first done", gate="has-all-the-money"))
        await chain.llm.wait_until(lambda traffic: traffic.waiting_at("has-all-the-money") == 1)
        second, third = begin("second", Step(content="never")), begin("third", Step(content="third done"))
        for name in ("second", "third"):
            await _is_running(http, name)
        received = chain.llm.traffic.received
        cancelled = (await http.post("/v1/runs/cancel", headers={"Idempotency-Key": "second"})).json()
        assert (cancelled["state"], cancelled["cost"]["tree"], cancelled["cost"]["complete"]) == ("cancelled", "0.000000", True)
        assert chain.llm.traffic.received == received
        chain.llm.open_gate("has-all-the-money")
        answers: Any = await asyncio.gather(first, second, third, return_exceptions=True)
    assert [getattr(answer, "code", None) or answer.choices[0].message.content for answer in answers] == [
        "first done",
        "run_cancelled",
        "third done",
    ]


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
    assert failed.value.body["details"]["peer"] == "b"  # type: ignore[index]  # an error object


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


async def test_a_request_that_is_forwarded_in_a_circle_is_refused(chain: Chain) -> None:
    async with chain.b.client() as client:

        async def is_listed() -> bool:
            return "c/back/openhands_lead" in {model.id for model in (await client.models.list()).data}

        await until(is_listed)  # C must ask B after B has started, and B must ask C after that
        with pytest.raises(APIStatusError) as circle:
            await client.chat.completions.create(model="c/back/openhands_lead", messages=[user("Round.", Step(content="no"))])
    assert (circle.value.status_code, circle.value.code) == (508, "gateway_loop_detected")
    assert "gateway-b" in circle.value.message


async def test_a_peer_may_use_no_more_than_was_set_aside(chain: Chain) -> None:
    burning = call("delegate", agent="b/openhands_lead", task="burn 1", budget_usd="0.03")
    steps = Step(tool_calls=(burning,), usage=CENT), Step(content="done", usage=Usage(1_000, 1))
    _, usage = await ask(chain.a, "openhands_lead", user("Burn.", *steps), **{"X-A2A-Budget-USD": "0.05"})
    assert 0.02 < usage["cost"] <= 0.05
