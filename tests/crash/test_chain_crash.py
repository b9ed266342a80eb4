"""A peer that is killed in the middle of a run: what its caller is told, what it pays, and what is known once it is back."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from openai import APIStatusError
from pydantic import SecretStr

from a2a_gateway.server.clock import SystemClock
from a2a_gateway.settings import PeerSettings
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, user
from tests.support.gateway import gateway_in_thread, scripted_environ

pytestmark = pytest.mark.anyio

PRICED = """---
name: far
description: Far.
tools: [terminal]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""


def start_peer(home: Path, port: int, llm: ScriptedLLM) -> "subprocess.Popen[str]":
    """Start a gateway as a process of its own, and wait until it takes runs."""
    (home / "profiles").mkdir(parents=True, exist_ok=True)
    (home / "profiles" / "far.md").write_text(PRICED)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "LLM_", "OH_"))}
    environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(home / "openhands"), A2A_DATA_DIR=str(home))
    process = subprocess.Popen(
        [sys.executable, "-m", "a2a_gateway", "serve", "--port", str(port)],
        env={**clean, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("Ctrl-C") for line in process.stdout), "it did not start"
    return process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_a_peer_killed_in_mid_run_costs_what_its_own_ledger_says_once_it_is_back(tmp_path: Path) -> None:
    far, near, port = tmp_path / "far", tmp_path / "near", free_port()
    far.mkdir()
    async with open_store(sqlite_url(far / "gateway.db"), SystemClock()) as store:
        _, secret = await store.keys.create_key("near")
    peer = PeerSettings(id="far", base_url=f"http://127.0.0.1:{port}/v1", api_key=SecretStr(secret))
    with ScriptedLLM.in_thread() as llm:
        process = await asyncio.to_thread(start_peer, far, port, llm)
        try:
            near_environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(near / "openhands"))
            with gateway_in_thread(
                near, near_environ, gateway_id="near", peers=(peer,), peer_refresh_s=0.1, shell_pool_size=0
            ) as gateway:
                # The first call is answered and charged, the second is under way when the power goes.
                steps = (
                    Step(content="Working.", tool_calls=(call("terminal", command="true"),), usage=Usage(3_000, 0)),
                    Step(content="never", gate=Gate("power-cut")),
                )
                async with gateway.client() as client, gateway.http() as http:
                    asking = asyncio.create_task(
                        client.chat.completions.create(
                            model="far/openhands_far", messages=[user("Go.", *steps)], extra_headers={"X-A2A-Budget-USD": "1"}
                        )
                    )
                    await llm.wait_until(lambda traffic: traffic.waiting_at("power-cut") == 1)
                    process.send_signal(signal.SIGKILL)
                    await asyncio.to_thread(process.wait)
                    with pytest.raises(APIStatusError) as lost:
                        await asking
                    run_id = lost.value.response.headers["x-a2a-run-id"]
                    before = (await http.get(f"/v1/runs/{run_id}")).json()
                    process = await asyncio.to_thread(start_peer, far, port, llm)
                    after = await _reconciled(http, run_id)
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)

    assert (lost.value.status_code, lost.value.code) == (503, "peer_unavailable")
    assert lost.value.response.headers["x-should-retry"] == "false"
    assert before["cost"] | {"currency": ""} == {
        "self": "0.000000",
        "tree": "0.000000",
        "reserved": "0.000000",
        "currency": "",
        "complete": False,
    }
    async with open_store(sqlite_url(far / "gateway.db"), SystemClock()) as store:
        (there,) = await store.ledger.recent_runs(None, 10)
    # The call in flight is charged with all that was set aside for it, and marked.
    assert there.cost_tree_micro_usd > 3_000
    assert (there.state.value, there.cost_complete, there.reserved_micro_usd) == ("lost", False, 0)
    assert round(float(after["cost"]["tree"]) * 1_000_000) == there.cost_tree_micro_usd


async def _reconciled(http: httpx.AsyncClient, run_id: str) -> dict[str, dict[str, str]]:
    """Wait until the gateway has asked its peer."""
    async with asyncio.timeout(30):
        while True:
            run: dict[str, dict[str, str]] = (await http.get(f"/v1/runs/{run_id}")).json()
            if run["cost"]["tree"] != "0.000000":
                return run
            await asyncio.sleep(0.05)  # its background task tells nobody
