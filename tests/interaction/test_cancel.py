"""Everything stops when the caller hangs up, and nothing is left."""

import asyncio
from typing import Any

import pytest
from openai import APIStatusError

from a2a_gateway.runs.model import RunState
from a2a_gateway.testing.script import Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, delegation, partial_of, user
from tests.support.gateway import GatewayUnderTest

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"


def chain(levels: int, *bottom: Step) -> tuple[Step, ...]:
    """Script an agent that delegates to itself, level by level, down to `bottom`."""
    steps = bottom
    for level in range(levels):
        steps = (Step(tool_calls=(delegation("self", f"Cancel level {level}.", *steps),)), Step(content="never"))
    return steps


async def all_ended(gateway: GatewayUnderTest) -> None:
    """Wait until no run is under way."""
    service = gateway.running.gateway.started.result().service
    for live in service.live_runs:
        await asyncio.to_thread(gateway.portal.call, live.closed.wait)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_stops_the_whole_chain(gateway: GatewayUnderTest, llm: ScriptedLLM, stream: bool) -> None:
    message = user("Chain.", *chain(3, Step(hang=True)))
    async with gateway.client() as client:

        async def read() -> None:
            answer: Any = await client.chat.completions.create(model=PRICED, messages=[message], stream=stream)
            async for _ in answer:
                pass

        reading = asyncio.create_task(read())
        await llm.wait_until(lambda traffic: traffic.in_flight == 1 and "Cancel level 0." in traffic.requests[-1].last_text[:20])
        before = llm.traffic.received
        reading.cancel()
        await asyncio.wait({reading})
        await llm.wait_until(lambda traffic: traffic.in_flight == 0)
        await all_ended(gateway)
    assert llm.traffic.received == before
    records = await asyncio.to_thread(
        gateway.portal.call, gateway.running.gateway.started.result().store.ledger.recent_runs, None, 1
    )
    tree = await asyncio.to_thread(
        gateway.portal.call, gateway.running.gateway.started.result().store.ledger.subtree, records[0].id
    )
    assert [record.state for record in tree] == [RunState.CANCELLED] * 4


async def test_a_running_command_is_stopped_with_its_run(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    steps = (Step(tool_calls=(call("terminal", command="echo $$ > pid; exec sleep 1000"),)), Step(content="never"))
    async with gateway.client() as client:
        stream = await client.chat.completions.with_raw_response.create(
            model=PRICED, messages=[user("Sleep.", *steps)], stream=True
        )
        live = gateway.live_run(stream.headers["x-a2a-run-id"])
        async for _ in stream.parse():
            break
        async with gateway.http() as http:
            cancelled = (await http.post(f"/v1/runs/{live.record.id}/cancel")).json()
    assert (cancelled["state"], cancelled["stop_reason"]) == ("cancelled", "cancelled")
    assert live.closed.is_set()


async def test_a_cancelled_run_answers_499_and_is_charged_for_what_it_spent(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    steps = (Step(content="Some.", tool_calls=(call("terminal", command="true"),), usage=Usage(500, 0)), Step(hang=True))
    async with gateway.client() as client, gateway.http() as http:
        asking = asyncio.create_task(client.chat.completions.create(model=PRICED, messages=[user("cancel-test", *steps)]))
        await llm.wait_until(lambda traffic: traffic.in_flight == 1 and "cancel-test" in str(traffic.requests[-1].messages))
        await llm.wait_until(lambda traffic: len(traffic.requests[-1].messages) == 4)
        listed = (await http.get("/v1/runs", params={"limit": 1})).json()["data"][0]
        answer = (await http.post(f"/v1/runs/{listed['id']}/cancel")).json()
        with pytest.raises(APIStatusError) as cancelled:
            await asking
    assert (cancelled.value.status_code, cancelled.value.code) == (499, "run_cancelled")
    assert partial_of(cancelled.value) == "Some."
    assert float(answer["cost"]["self"]) >= 0.0005


async def test_a_run_that_shall_continue_outlives_its_client(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client, gateway.http() as http:
        stream = await client.chat.completions.with_raw_response.create(
            model=PRICED,
            messages=[user("Go on.", Step(content="made it", gate="continue-test"))],
            stream=True,
            extra_headers={"X-A2A-On-Disconnect": "continue"},
        )
        run_id = stream.headers["x-a2a-run-id"]
        live = gateway.live_run(run_id)
        await stream.parse().close()
        llm.open_gate("continue-test")
        await asyncio.to_thread(gateway.portal.call, live.closed.wait)
        assert (await http.get(f"/v1/runs/{run_id}")).json()["state"] == "finished"


async def test_cancelling_an_ended_run_changes_nothing(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client, gateway.http() as http:
        completion = await client.chat.completions.create(model=PRICED, messages=[user("Hi", Step(content="done"))])
        run_id = completion.id.removeprefix("chatcmpl-")
        assert (await http.post(f"/v1/runs/{run_id}/cancel")).json()["state"] == "finished"
