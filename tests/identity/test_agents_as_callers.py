"""What an agent is that calls its gateway from its terminal, with its own token or a key: a child of its own run, and no more."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.model import RunId, RunRecord
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.script import Step
from tests.support.ask import user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.terminal import AGENT, PROFILE, chat, curl, types
from tests.support.until import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.linux("only Linux lists the process of a connection"),
]
WIDER = {
    "X_A2A_Depth": "0",
    "X_A2A_Max_Depth": "99",
    "X_A2A_Budget_USD": "1000",
    "X_A2A_Max_Runs": "999",
    "X_A2A_Timeout": "9999",
}
NARROW = {"X-A2A-Max-Depth": "2", "X-A2A-Budget-USD": "0.5", "X-A2A-Max-Runs": "7", "X-A2A-Timeout": "60"}


@contextmanager
def gateway_where(home: Path, **settings: Any) -> Iterator[GatewayUnderTest]:
    with scripted_gateway(home, {"worker": PROFILE}, shell_pool_size=1, **settings) as (gateway, _):
        yield gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    """A gateway where an agent that uses a key is taken for what it is."""
    with gateway_where(tmp_path_factory.mktemp("gateway"), agent_key_use="child") as gateway:
        yield gateway


async def ask(gateway: GatewayUnderTest, message: Any, key: str | None = None, **headers: str) -> str:
    async with gateway.client(key=key) as client:
        completion = await client.chat.completions.create(model=AGENT, messages=[message], extra_headers=headers)
    return completion.choices[0].message.content or ""


async def with_token(gateway: GatewayUnderTest, path: Path, command: str, **headers: str) -> tuple[RunRecord, str]:
    """Let an agent run a command for which it needs its own token, and slip that to it."""
    waiting = path.with_name("waiting")
    message = types(f"touch {waiting}; until [ -s {path} ]; do sleep 0.02; done; {command}")
    asking = asyncio.create_task(ask(gateway, message, **headers))
    await until(waiting.exists)
    engine = gateway.running.gateway.started.result()
    (live,) = [each for each in engine.service.live_runs if each.record.depth == 0]
    path.with_suffix(".part").write_text(engine.auth.tokens.mint(live.record))  # no other test uses this loop
    path.with_suffix(".part").rename(path)
    return live.record, await asking


def run_in(answer: str, gateway: GatewayUnderTest) -> RunRecord:
    """Return the record of the run whose answer this is, as `curl` prints it."""
    found = re.search(r"(?i)^x-a2a-run-id: (\S+)", answer, re.MULTILINE)
    assert found is not None, answer
    ledger = gateway.running.gateway.started.result().store.ledger
    record: RunRecord | None = gateway.portal.call(ledger.get_run, RunId(found[1]))
    assert record is not None
    return record


def assert_is_below(child: RunRecord, parent: RunRecord) -> None:
    assert (child.parent_id, child.tree_id, child.depth) == (parent.id, parent.tree_id, parent.depth + 1)
    assert child.key_id == parent.key_id
    assert child.deadline_at <= parent.deadline_at
    assert child.limits.max_depth <= parent.limits.max_depth
    assert child.limits.max_runs < parent.limits.max_runs
    assert (child.limits.budget_micro_usd or 0) <= (parent.limits.budget_micro_usd or 0)


@pytest.mark.parametrize("forged", [{}, WIDER], ids=["no headers", "headers that ask for more"])
async def test_with_its_own_token_it_is_a_child_of_its_run(
    gateway: GatewayUnderTest, tmp_path: Path, forged: dict[str, str]
) -> None:
    token = tmp_path / "token"
    command = curl(f"{gateway.base_url}/chat/completions", token, chat("below"), **forged)
    parent, answer = await with_token(gateway, token, command, **NARROW)
    child = await asyncio.to_thread(run_in, answer, gateway)
    assert '"content":"below"' in answer
    assert_is_below(child, parent)


@pytest.mark.parametrize("forged", [{}, WIDER], ids=["no headers", "headers that ask for more"])
@pytest.mark.parametrize("way", ["{}", "(env -i $(command -v env) PATH=$PATH setsid nohup {} > out; touch done) & wait; cat out"])
async def test_with_a_key_it_is_a_child_of_its_run_whoevers_the_key_is(
    gateway: GatewayUnderTest, forged: dict[str, str], way: str
) -> None:
    _, stolen = await asyncio.to_thread(gateway.create_key, f"of another client {len(forged)} {len(way)}")
    command = curl(f"{gateway.base_url}/chat/completions", stolen, chat("below"), **forged)
    answer = await ask(gateway, types(way.format(command)), **NARROW)
    child = await asyncio.to_thread(run_in, answer, gateway)
    ledger = gateway.running.gateway.started.result().store.ledger
    assert child.parent_id is not None
    parent = await asyncio.to_thread(gateway.portal.call, ledger.get_run, child.parent_id)
    assert_is_below(child, parent)


async def test_with_a_key_it_is_bound_by_its_depth(gateway: GatewayUnderTest) -> None:
    command = curl(f"{gateway.base_url}/chat/completions", gateway.key, chat("never"), **WIDER)
    answer = await ask(gateway, types(command), **{"X-A2A-Max-Depth": "0"})
    assert '"code":"delegation_depth_exceeded"' in answer


async def test_with_a_key_it_sees_and_stops_only_what_is_below_it(gateway: GatewayUnderTest) -> None:
    await ask(gateway, user("Something private.", Step(content="private")))
    async with gateway.http() as http:
        private = (await http.get("/v1/runs")).json()["data"][0]["id"]
    urls = [
        ("GET", "/runs"),
        ("GET", f"/runs/{private}"),
        ("POST", f"/runs/{private}/cancel"),
        ("GET", f"/runs/{private}/events"),
    ]
    commands = [curl(gateway.base_url + path, gateway.key, method=method) for method, path in urls]
    listed, *others = (await ask(gateway, types("; echo; echo ---; ".join(commands)))).split("---")
    (run,) = json.loads(listed.strip().splitlines()[-1])["data"]
    assert run["id"] != private
    assert run["state"] == "running"
    assert ['"code":"run_not_found"' in other for other in others] == [True] * 3


async def test_a_token_of_a_run_that_has_ended_is_worth_nothing(gateway: GatewayUnderTest, tmp_path: Path) -> None:
    token = tmp_path / "token"
    await with_token(gateway, token, "true")
    answer = await ask(gateway, types(curl(f"{gateway.base_url}/chat/completions", token, chat("never"))))
    assert '"code":"run_token_revoked"' in answer


async def test_where_it_is_allowed_an_agent_starts_trees_with_a_key(tmp_path: Path) -> None:
    with gateway_where(tmp_path, agent_key_use="allow") as gateway:
        command = curl(f"{gateway.base_url}/chat/completions", gateway.key, chat("a tree of its own"))
        answer = await ask(gateway, types(command))
        assert (await asyncio.to_thread(run_in, answer, gateway)).depth == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1"])
async def test_an_agent_is_known_by_whichever_address_of_the_machine_it_calls(tmp_path: Path, host: str) -> None:
    async with open_store(sqlite_url(tmp_path / "gateway.db"), SystemClock()) as store:
        _, key = await store.keys.create_key("mine")
    with gateway_where(tmp_path, host=host) as gateway:
        port = gateway.running.settings.port
        addresses = ["[::1]"] if ":" in host else ["127.0.0.1", "127.0.0.9", *_own_addresses()]
        commands = [curl(f"http://{address}:{port}/v1/models", key) for address in addresses]
        answer = await ask(gateway, types("; echo; ".join(commands)), key=key)
    assert answer.count('"code":"root_key_from_agent"') == len(addresses)


def _own_addresses() -> list[str]:
    """Return this machine's addresses in networks, if it has any."""
    found = [address for each in psutil.net_if_addrs().values() for address in each if address.family.name == "AF_INET"]
    return [each.address for each in found if not each.address.startswith("127.")]
