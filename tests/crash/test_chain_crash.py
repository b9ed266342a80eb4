"""A gateway that is killed in the middle of a chain: what its caller is told, what it pays, and what is known once it is back."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.peers import SigningKey
from a2a_gateway.server.clock import SystemClock
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.money import parse_usd
from tests.support.ask import call, delegation, user
from tests.support.gateway import GatewayUnderTest, free_port, gateway_in_thread, scripted_environ

pytestmark = pytest.mark.anyio

PRICED = """---
name: far
description: Far.
tools: [delegate]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""


def write_profile(home: Path) -> None:
    (home / "test-profiles").mkdir(parents=True)
    (home / "test-profiles" / "far.md").write_text(PRICED)


def write_settings(home: Path, caller: SigningKey, peer: GatewayUnderTest) -> None:
    """Make a gateway that one calls, and that calls another, each known by its key."""
    (home / "gateway.toml").write_text(
        f'gateway_id = "middle"\ndata_dir = "{home}"\nprofiles = ["{home}/test-profiles"]\n'
        "peer_refresh_s = 0.1\nshell_pool_size = 0\n"
        f'[[peers]]\nid = "c"\nbase_url = "{peer.base_url}"\n'
        f'[[peers]]\nid = "a"\npublic_key = "{caller.public_key}"\n'
    )


def start(home: Path, port: int, llm: ScriptedLLM) -> "subprocess.Popen[str]":
    """Start a gateway as a process of its own, and wait until it takes runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "LLM_", "OH_"))}
    environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(home / "openhands"))
    process = subprocess.Popen(
        [sys.executable, "-m", "a2a_gateway", "serve", "--port", str(port), "--config", str(home / "gateway.toml")],
        env={**clean, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("Ctrl-C") for line in process.stdout), "it did not start"
    return process


async def test_a_chain_whose_middle_is_killed_costs_what_all_of_it_has_used_once_it_is_back(tmp_path: Path) -> None:
    middle, port = tmp_path / "b", free_port()
    for name in ("a", "b", "c"):
        write_profile(tmp_path / name)
    peer = PeerSettings(id="b", gateway_id="middle", base_url=f"http://127.0.0.1:{port}/v1")
    caller = PeerSettings(id="middle", public_key=SigningKey.open(middle).public_key)
    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread())

        def begin(name: str, **settings: Any) -> GatewayUnderTest:
            environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(tmp_path / name / "openhands"))
            return stack.enter_context(
                gateway_in_thread(tmp_path / name, environ, gateway_id=name, shell_pool_size=0, **settings)
            )

        c = begin("c", peers=(caller,))
        write_settings(middle, SigningKey.open(tmp_path / "a"), c)
        process = await asyncio.to_thread(start, middle, port, llm)
        try:
            a = begin("a", peers=(peer,), peer_refresh_s=0.1)
            # B's first call is answered and charged; then it waits for C, whose first call is charged and whose second hangs.
            at_c = (
                Step(tool_calls=(call("delegate", agent="nobody", task="x"),), usage=Usage(5_000, 0)),
                Step(content="never", gate=Gate("power-cut")),
            )
            at_b = Step(tool_calls=(delegation("c/openhands_far", "Below.", *at_c),), usage=Usage(3_000, 0))
            async with a.client() as client, a.http() as http:
                asking = asyncio.create_task(
                    client.chat.completions.create(
                        model="b/openhands_far", messages=[user("Go.", at_b)], extra_headers={"X-A2A-Budget-USD": "1"}
                    )
                )
                await llm.wait_until(lambda traffic: traffic.waiting_at("power-cut") == 1)
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                with pytest.raises(APIStatusError) as lost:
                    await asking
                await llm.wait_until(lambda traffic: traffic.waiting_at("power-cut") == 0)
                run_id = lost.value.response.headers["x-a2a-run-id"]
                before = (await http.get(f"/v1/runs/{run_id}")).json()
                process = await asyncio.to_thread(start, middle, port, llm)
                after = await _reconciled(http, run_id)
                tree = (await http.get(f"/v1/runs/{run_id}/tree")).json()
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)

    assert (lost.value.status_code, lost.value.code) == (503, "peer_unavailable")
    assert lost.value.response.headers["x-should-retry"] == "false"
    assert before["cost"] == {
        "self": "0.000000",
        "tree": "0.000000",
        "reserved": "0.000000",
        "currency": "USD",
        "complete": False,
        "pending": True,
    }
    at_b_run, at_c_run = tree, tree["children"][0]
    assert (at_b_run["gateway"], at_b_run["cost"]["self"]) == ("middle", "0.003000")
    assert (at_c_run["gateway"], at_c_run["agent"], at_c_run["state"]) == ("c", "c/openhands_far", "lost")
    async with open_store(sqlite_url(tmp_path / "c" / "gateway.db"), SystemClock()) as store:
        (there,) = await store.ledger.recent_runs(None, 10)
    assert (there.state.value, there.reserved_micro_usd) == ("cancelled", 0)
    assert there.cost_tree_micro_usd >= 5_000
    assert parse_usd(at_c_run["cost"]["tree"]) == there.cost_tree_micro_usd
    assert parse_usd(after["cost"]["tree"]) == 3_000 + there.cost_tree_micro_usd


async def _reconciled(http: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    """Wait until all that may still be learnt of a run's cost is known."""
    async with asyncio.timeout(30):
        while True:
            run: dict[str, Any] = (await http.get(f"/v1/runs/{run_id}")).json()
            if not run["cost"].get("pending"):
                return run
            await asyncio.sleep(0.05)  # its background task tells nobody
