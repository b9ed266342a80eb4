"""`GET /v1/runs/{id}`: what is kept of a run, for each caller that may see it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.testing.script import Gate, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_environ, scripted_gateway

pytestmark = pytest.mark.anyio
AGENT = "openhands_priced"


async def ask(gateway: GatewayUnderTest, message: Any, **options: Any) -> str:
    """Send a request without an idempotency key, to its end; return the run's id."""
    async with gateway.client() as client:
        answer = await client.chat.completions.create(model=AGENT, messages=[message], **options)
    return str(answer.id).removeprefix("chatcmpl-")


async def get(gateway: GatewayUnderTest, path: str) -> Any:
    async with gateway.http() as http:
        return (await http.get(f"/v1/runs/{path}")).raise_for_status().json()


async def test_a_finished_run_has_its_task_its_workspace_and_its_children(gateway: GatewayUnderTest) -> None:
    message = user("Go.", Step(tool_calls=(delegation(AGENT, "Help.", Step("Helped.")),)), Step("Done."))
    run_id = await ask(gateway, message)
    run = await get(gateway, run_id)
    assert run["task"] == {"text": message["content"], "truncated": False}
    assert Path(run["workspace"]).parent == gateway.data_dir / "workspaces"
    assert [(child["agent"], child["parent_id"], child["state"]) for child in run["children"]] == [(AGENT, run_id, "finished")]
    child = await get(gateway, run["children"][0]["id"])
    assert child["task"]["text"].startswith("Help.")
    assert child["workspace"] == run["workspace"]
    assert child["children"] == []


async def test_a_run_under_way_has_its_task_and_its_workspace(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        message = user("Wait.", Step(content="One two.", gate=Gate("details", after=1)))
        stream = await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
        run = await get(gateway, stream.response.headers["x-a2a-run-id"])
        llm.open_gate("details")
        assert [chunk async for chunk in stream]
    assert run["task"]["text"] == message["content"]
    assert run["workspace"]


async def test_an_agent_sees_no_path_of_the_gateways_machine(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        message = user("Look at yourself.", Step(content="One two.", gate=Gate("itself", after=1)))
        stream = await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
        live = gateway.live_run(stream.response.headers["x-a2a-run-id"])
        token = gateway.running.gateway.started.result().service.tokens.mint(live.record)
        async with gateway.http(token) as http:
            seen = (await http.get(f"/v1/runs/{live.record.id}")).json()
        llm.open_gate("itself")
        assert [chunk async for chunk in stream]
    assert seen["task"]["text"] == message["content"]
    assert live.workspace_dir and seen["workspace"] is None


@pytest.mark.parametrize(
    ("text", "kept", "truncated"),
    [
        ("x" * 16_385, "x" * 16_384, True),
        ("ä" * 8_193, "ä" * 8_192, True),
        ("x" + "€" * 10_000, "x" + "€" * 5_461, True),
        ("\x00 \N{FACE WITH TEARS OF JOY}", "\x00 \N{FACE WITH TEARS OF JOY}", False),
        (scripted_environ("")["LLM_API_KEY"], "<secret-hidden>", False),
        ("x" * 16_380 + scripted_environ("")["LLM_API_KEY"], "x" * 16_380 + "<sec", True),
    ],
    ids=["long", "two bytes each", "cut within a character", "NUL", "secret", "secret across the end"],
)
async def test_a_task_is_kept_bounded_well_formed_and_masked(
    gateway: GatewayUnderTest, text: str, kept: str, truncated: bool
) -> None:
    body = json.dumps({"model": AGENT, "messages": [{"role": "user", "content": text}]})
    async with gateway.http() as http:
        answer = (await http.post("/v1/chat/completions", content=body.encode())).raise_for_status()
    run = await get(gateway, answer.headers["x-a2a-run-id"])
    assert run["task"] == {"text": kept, "truncated": truncated}


async def test_a_gateway_may_keep_nothing_of_its_runs(tmp_path: Path) -> None:
    with scripted_gateway(tmp_path, shell_pool_size=0, journal_bytes=0) as (gateway, _):
        async with gateway.client() as client:
            answer = await client.chat.completions.create(model="openhands_default", messages=[user("Go.", Step("Done."))])
        run = await get(gateway, answer.id.removeprefix("chatcmpl-"))
        count = await asyncio.to_thread(
            gateway.portal.call, gateway.running.gateway.started.result().store.journals.get, run["id"]
        )
    assert (run["state"], run["task"], run["workspace"], count) == ("finished", None, None, None)
