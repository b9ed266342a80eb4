"""`GET /v1/runs/{id}/events`: what a run published, while it works and as long as its record is kept."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.testing.script import ScriptedCall, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_environ, scripted_gateway
from tests.support.sse import decode_events

pytestmark = pytest.mark.anyio
AGENT = "openhands_priced"
LLM_KEY = scripted_environ("")["LLM_API_KEY"]


async def ask(gateway: GatewayUnderTest, *steps: Step, model: str = AGENT) -> str:
    """Send a request without an idempotency key, to its end; return the run's id."""
    async with gateway.client() as client:
        answer = await client.chat.completions.create(model=model, messages=[user("Go.", *steps)])
    return str(answer.id).removeprefix("chatcmpl-")


async def events_of(gateway: GatewayUnderTest, run_id: str, headers: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    async with gateway.http() as http:
        response = (await http.get(f"/v1/runs/{run_id}/events", headers=headers)).raise_for_status()
    events = [{**json.loads(event.data), "named": event.event} for event in decode_events(response.content)]
    assert [event.pop("named") for event in events] == [event["type"] for event in events]
    return events


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


async def test_a_run_that_has_ended_has_the_events_that_it_had_while_it_worked(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    steps = (
        Step("I look.", reasoning="Hm, where?", tool_calls=(call("terminal", command="echo here"),)),
        Step(tool_calls=(delegation(AGENT, "Help.", Step("Helped.")),)),
        Step("Here it is.", gate="events-alike"),
    )
    asking = asyncio.create_task(ask(gateway, *steps))
    await llm_waits(llm, "events-alike")
    async with gateway.http() as http:
        run_id = (await http.get("/v1/runs")).json()["data"][0]["id"]
        async with http.stream("GET", f"/v1/runs/{run_id}/events") as watching:
            llm.open_gate("events-alike")
            heard = decode_events(await watching.aread())
            live = [json.loads(event.data) for event in heard if event.data]  # httpx-sse makes a heartbeat an event without data
    assert await asking == run_id
    kept = await events_of(gateway, run_id)
    assert kept == live
    assert [event["id"] for event in kept] == list(range(len(kept)))
    assert kept[-1]["type"] == "run.finished"
    assert await events_of(gateway, run_id, {"Last-Event-ID": "3"}) == live[4:]
    assert await events_of(gateway, run_id, {"Last-Event-ID": str(len(live))}) == []


async def llm_waits(llm: ScriptedLLM, gate: str) -> None:
    await llm.wait_until(lambda traffic: any(gate in str(request.body) for request in traffic.requests))


async def test_a_tool_that_starts_has_its_arguments_and_a_delegation_its_childs_id(gateway: GatewayUnderTest) -> None:
    delegate = delegation(AGENT, "Help.", Step("Helped."))
    run_id = await ask(gateway, Step(tool_calls=(call("terminal", command="exit 3"), delegate)), Step("Done."))
    events = await events_of(gateway, run_id)
    started, finished = of_type(events, "tool.started"), of_type(events, "tool.finished")
    assert [(event["tool"], json.loads(event["arguments"])) for event in started] == [
        ("terminal", {"command": "exit 3"}),
        ("delegate", delegate.arguments),
    ]
    assert [event["truncated"] for event in started] == [False, False]
    async with gateway.http() as http:
        (child,) = (await http.get(f"/v1/runs/{run_id}")).json()["children"]
    by_tool = {event["tool"]: event for event in finished}
    assert [by_tool[tool]["child_run_id"] for tool in ("terminal", "delegate")] == [None, child["id"]]
    (of_child,) = of_type(await events_of(gateway, child["id"]), "run.started")
    assert (of_child["parent_id"], of_child["depth"]) == (run_id, 1)


@pytest.mark.parametrize(
    ("arguments", "shown", "truncated"),
    [
        ({"thought": f"It is {LLM_KEY}."}, '{"thought": "It is <secret-hidden>."}', False),
        (f'{{"thought": "It is \\u0073{LLM_KEY[1:]}."}}', '{"thought": "It is <secret-hidden>."}', False),
        (f'{{"thought": "{LLM_KEY}', None, False),
        ({"thought": "x" * 20_000}, '{"thought": "' + "x" * 16_371, True),
        ({"thought": "\x00 \N{FACE WITH TEARS OF JOY}"}, None, False),
        ('{"thought": "\\ud800"}', None, False),
        ("[" * 500, None, False),
    ],
    ids=["secret", "secret with an escape", "secret in no JSON", "long", "NUL", "half a surrogate pair", "deep"],
)
async def test_arguments_are_masked_bounded_and_well_formed(
    gateway: GatewayUnderTest, arguments: Any, shown: str | None, truncated: bool
) -> None:
    run_id = await ask(gateway, Step(tool_calls=(ScriptedCall("think", arguments),)), Step("Done."))
    events = await events_of(gateway, run_id)
    (started,) = of_type(events, "tool.started")
    assert LLM_KEY not in json.dumps(events)
    assert (started["arguments"] if shown is None else shown, truncated) == (started["arguments"], started["truncated"])
    assert events[-1]["state"] == "finished"


async def test_a_failed_run_has_its_error_and_the_text_that_it_had_written(gateway: GatewayUnderTest) -> None:
    steps = (Step("I look.", tool_calls=(call("terminal", command="true"),)), Step(status=400, error="no"))
    async with gateway.http() as http:
        failed = await http.post("/v1/chat/completions", json={"model": AGENT, "messages": [user("Go.", *steps)]})
        run_id = failed.headers["x-a2a-run-id"]
        error = (await http.get(f"/v1/runs/{run_id}")).json()["error"]
    assert (error["code"], error["details"]["partial"]) == (failed.json()["error"]["code"], "I look.")
    events = await events_of(gateway, run_id)
    assert events[-1]["error"] == error
    assert of_type(events, "content.delta")


async def test_events_outlive_the_gateway_that_wrote_them(tmp_path: Path) -> None:
    with scripted_gateway(tmp_path, shell_pool_size=0) as (gateway, _):
        key = gateway.key
        run_id = await ask(gateway, Step("Done and dusted."), model="openhands_default")
        before = await events_of(gateway, run_id)
    with scripted_gateway(tmp_path, shell_pool_size=0) as (gateway, _):
        async with gateway.http(key) as http:
            run = (await http.get(f"/v1/runs/{run_id}")).json()
            after = await http.get(f"/v1/runs/{run_id}/events")
    assert [json.loads(event.data) for event in decode_events(after.content)] == before
    assert run["answer"] == {"text": "Done and dusted.", "finish_reason": "stop"}
