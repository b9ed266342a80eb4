"""Agents of two gateways that call each other: allowed, unless one of them would get the task that it is at already."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.script import ChatRequest, Step, text_of
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.context import CONTEXT_HEADING
from tests.support.ask import call
from tests.support.gateway import GatewayUnderTest, free_port, gateway_in_thread, scripted_environ
from tests.support.until import until

pytestmark = pytest.mark.anyio

PROFILE = """---
name: {name}
description: Leads.
tools: [delegate]
---
You are the {name} of the {gateway}."""
SECRET = "0123456789abcdef" * 2


def lead_in_a_circle(request: ChatRequest) -> Step:
    """Delegate the own task to the other gateway: `<peer> <agent at the desk>: …`; the agent `other` answers."""
    task = next(text_of(message) for message in reversed(request.messages) if message.get("role") == "user")
    if request.messages[-1].get("role") == "tool":
        return Step(content="answered: $LAST")
    if "You are the other" in request.system_text:
        return Step(content="I am another.")
    peer, agent = task.partition(":")[0].split()
    is_desk = "the desk" in request.system_text
    task = task.partition(CONTEXT_HEADING)[0]
    if is_desk:
        return Step(tool_calls=(call("delegate", agent=f"box{peer}/openhands_lead", task=f"{task}\u200b ", context="some"),))
    return Step(tool_calls=(call("delegate", agent=f"desk{peer}/openhands_{agent}", task=task.replace(" it", "\n it")),))


@dataclass(frozen=True)
class Pair:
    desk: GatewayUnderTest
    llm: ScriptedLLM


async def make_key(data_dir: Path) -> str:
    async with open_store(sqlite_url(data_dir / "gateway.db"), SystemClock()) as store:
        _, secret = await store.keys.create_key("other")
        return secret


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two gateways, each of which knows the other as two peers: one by grants, one by an ordinary key."""
    home = tmp_path_factory.mktemp("circle")
    ports = {"desk": free_port(), "box": free_port()}
    for name in ports:
        (home / name / "test-profiles").mkdir(parents=True)
        for profile in ("lead", "other"):
            text = PROFILE.format(name=profile, gateway=name)
            (home / name / "test-profiles" / f"{profile}.md").write_text(text)
    keys = {name: anyio.run(make_key, home / name) for name in ports}

    def peers(name: str) -> tuple[PeerSettings, ...]:
        base_url = f"http://127.0.0.1:{ports[name]}/v1"
        by_grant = PeerSettings(id=f"{name}-by-grant", gateway_id=name, base_url=base_url, shared_secret_env="SHARED")
        return by_grant, PeerSettings(id=f"{name}-by-key", base_url=base_url, api_key=SecretStr(keys[name]))

    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread(direct=lead_in_a_circle))

        def begin(name: str, other: str) -> GatewayUnderTest:
            environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(home / name / "openhands"), SHARED=SECRET)
            options: dict[str, Any] = {"gateway_id": name, "port": ports[name], "peers": peers(other), "shell_pool_size": 0}
            return stack.enter_context(gateway_in_thread(home / name, environ, peer_refresh_s=0.5, **options))

        box = begin("box", "desk")
        desk = begin("desk", "box")
        served = box.running.gateway.started.result().profiles.list  # it was started first, so it has yet to find the desk
        anyio.run(
            until, lambda: {f"desk-by-{kind}/openhands_lead" for kind in ("grant", "key")} <= {each.model for each in served()}
        )
        yield Pair(GatewayUnderTest(desk.running, desk.portal, desk.base_url, keys["desk"], desk.data_dir), llm)


def error_codes(run: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Agent and error of a run and of all below it."""
    own = (str(run["agent"]), run["error_code"])
    return [own, *(code for child in run["children"] for code in error_codes(child))]


async def tree_of(pair: Pair, task: str) -> list[tuple[str, str | None]]:
    async with pair.desk.client() as client, pair.desk.http() as http:
        message: Any = {"role": "user", "content": task}
        answer = await client.chat.completions.create(model="openhands_lead", messages=[message])
        run_id = answer.id.removeprefix("chatcmpl-")
        return error_codes((await http.get(f"/v1/runs/{run_id}/tree")).json())


@pytest.mark.parametrize("peer", ["-by-grant", "-by-key"])
async def test_an_agent_does_not_get_its_own_task_back_through_another_gateway(pair: Pair, peer: str) -> None:
    before = pair.llm.traffic.received
    runs = await tree_of(pair, f"{peer} lead: do it.")
    assert [code for _, code in runs] == [None, None, "delegation_cycle_detected"]
    assert pair.llm.traffic.received - before == 4


@pytest.mark.parametrize("peer", ["-by-grant", "-by-key"])
async def test_another_agent_may_get_the_task_through_another_gateway(pair: Pair, peer: str) -> None:
    runs = await tree_of(pair, f"{peer} other: do it.")
    assert runs == [("openhands_lead", None), (f"box{peer}/openhands_lead", None), (f"desk{peer}/openhands_other", None)]
