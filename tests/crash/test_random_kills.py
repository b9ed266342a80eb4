"""A gateway that is killed at random instants under a mixed load, and what is true once it is back.

`KILL_ROUNDS=100` kills so often, `KILL_DATABASE=postgresql` does it with that. Each run prints its seed, and `KILL_SEED` repeats
one, as far as the machine plays along.
"""

import asyncio
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from openai import APIStatusError

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.model import SpendCaps
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.crash.books import LIVE, Books
from tests.crash.load import CONVERSATION, PROFILES, Client, Deed, Truth, clients_of, seeded_chance
from tests.support.ask import user
from tests.support.postgresql import make_postgresql_database, required_postgresql, running_postgresql
from tests.support.process import GatewayProcess
from tests.support.until import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = int(os.environ.get("KILL_ROUNDS", "2"))
CALM, RASH = ("calm1", "calm2", "calm3"), ("rash1", "rash2")


@dataclass
class Scene:
    """A gateway, its LLM and its clients, over all rounds."""

    gateway: GatewayProcess
    llm: ScriptedLLM
    keys: Sequence[tuple[str, str]]
    chance: random.Random
    deeds: list[Deed] = field(default_factory=list)

    @property
    def nap(self) -> str:
        """Found in the argument list of no other process of this machine."""
        return f"7777.{self.gateway.port}"

    def books(self) -> Books:
        return Books.read(self.gateway.database_url)

    async def start(self) -> None:
        await asyncio.to_thread(self.gateway.start)

    async def kill(self) -> None:
        await asyncio.to_thread(self.gateway.end, signal.SIGKILL)
        await self.llm.wait_until(lambda traffic: traffic.in_flight == 0)

    async def moment(self, longest_s: float) -> None:
        """Choose a random instant, because the critical instants are not all known."""
        await asyncio.sleep(self.chance.uniform(0, longest_s))


def naps(scene: Scene) -> list[psutil.Process]:
    """Return the processes that agents have started, also those whose parents have ended."""
    return [process for process in psutil.process_iter() if scene.nap in _arguments(process)]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def killed_under_load(scene: Scene, *, drain: bool) -> tuple[list[Client], Books]:
    """Let the clients work and kill the gateway; returns them, and the books as the dead gateway left them."""
    clients = clients_of(scene.keys, scene.gateway.url, scene.chance, scene.nap)
    working = [asyncio.create_task(client.work()) for client in clients]
    calls = scene.llm.traffic.received + scene.chance.randint(1, 60)
    await scene.llm.wait_until(lambda traffic: traffic.received >= calls, 60)
    await scene.moment(0.2)
    if drain:
        assert scene.gateway.process is not None
        scene.gateway.process.send_signal(signal.SIGTERM)
        await scene.moment(0.5)
    await scene.kill()
    for task in working:
        task.cancel()
    for end in await asyncio.gather(*working, return_exceptions=True):
        assert isinstance(end, asyncio.CancelledError), end
    return clients, scene.books()


def check_accounts(before: Books, dead: Books, after: Books, truth: Truth) -> None:
    """Check that each account has what its calls cost, and for calls that the kill cut short what is presumed of them."""
    assert before.disagreements() == dead.disagreements() == after.disagreements() == []
    (held, calls), presumed = dead.holds_by_payer(), dead.presumed_charges()
    assert after.spent() == dead.spent() + presumed
    assert presumed <= held
    assert after.uncertain() == dead.uncertain() + calls
    for payer in truth.calls | dead.spent():
        spent = dead.spent()[payer] - before.spent()[payer]
        if payer[0] in CALM:
            assert spent <= truth.answered[payer] <= spent + held[payer], payer
        if payer[0] in CALM and not calls[payer]:
            assert spent == truth.answered[payer], payer
        assert spent <= truth.most[payer], payer
        assert spent + presumed[payer] >= truth.calls[payer], f"{payer}: a call was free"


def check_nothing_of_the_dead_stays(scene: Scene, dead: Books, after: Books) -> None:
    assert after.open_holds() == []
    assert [run["id"] for run in after.runs if run["state"] in LIVE or run["reserved_micro_usd"]] == []
    lost = {run["id"] for run in after.runs if run["state"] == "lost"}
    assert lost - {run["id"] for run in dead.runs if run["state"] == "lost"} == dead.live()
    for hold in dead.open_holds():
        assert after.run(hold["run_id"])["unknown_charges"] > 0
        assert after.run(after.run(hold["run_id"])["tree_id"])["unknown_charges"] > 0
    kept = {conversation["workspace_dir"] for conversation in after.conversations}
    assert {str(path) for path in (scene.gateway.data_dir / "workspaces").resolve().glob("*")} <= kept
    assert naps(scene) == []
    assert len(list((scene.gateway.data_dir / "shells").glob("gateway-*"))) == 1


async def check_what_clients_are_told(scene: Scene, clients: list[Client], dead: Books) -> None:
    names = {name: key for key, name in dead.names().items()}
    claims = {(claim["scope"], claim["key"]): claim["run_id"] for claim in dead.claims}
    for client in clients:
        async with httpx.AsyncClient(base_url=scene.gateway.url, timeout=60) as http:
            http.headers["authorization"] = f"Bearer {client.api.api_key}"
            for run_id in [run["id"] for run in dead.runs if run["id"] in dead.live() and run["key_id"] == names[client.name]]:
                told = (await http.get(f"/v1/runs/{run_id}")).json()
                in_flight = {hold["run_id"] for hold in dead.open_holds()} & {one["id"] for one in dead.tree_of(run_id)}
                assert told["state"] == "lost", told
                assert not (in_flight and told["cost"]["complete"]), told
        for deed in client.deeds:
            if deed.idempotency_key is not None:
                await check_repeat(client, deed, dead, claims.get((f"key:{names[client.name]}", deed.idempotency_key)))
        for begun in client.finished:
            answer = await client.whole(user(f"@{client.name} task again.", client.step()), headers=went_on(begun))
            assert answer.conversation_id == begun.conversation_id
            said = str(scene.llm.traffic.requests[-1].messages)
            assert begun.request["messages"][0]["content"].split("[[")[0].strip() in said


def went_on(begun: Deed) -> dict[str, str]:
    return {CONVERSATION: str(begun.conversation_id)}


async def check_repeat(client: Client, deed: Deed, dead: Books, run_id: str | None) -> None:
    """Send a request with an idempotency key again, and check the answer by what was known of its run at the kill."""
    again: Any = await _outcome(client, deed)
    if run_id is None or (run_id in dead.live() and not dead.has_executed(run_id)):
        assert deed.run_id is None
        assert not isinstance(again, APIStatusError) or again.code not in ("run_lost", "run_cancelled"), again
        return
    state = "lost" if run_id in dead.live() else dead.run(run_id)["state"]
    if state in ("finished", "limited"):
        assert again.headers["x-a2a-idempotent-replay"] == "true"
        answer = again.parse()
        assert answer.id == f"chatcmpl-{run_id}"
        assert deed.text in (None, answer.choices[0].message.content)
    else:
        assert isinstance(again, APIStatusError), (state, again)
        assert again.response.headers["x-should-retry"] == "false"
        assert (again.response.headers["x-a2a-run-id"], again.response.headers["x-a2a-idempotent-replay"]) == (run_id, "true")
        if state == "lost":
            assert (again.status_code, again.code) == (503, "run_lost")
        else:
            assert again.code == dead.run(run_id)["error_code"]


async def _outcome(client: Client, deed: Deed) -> object:
    try:
        return await client.api.chat.completions.with_raw_response.create(**deed.request)
    except APIStatusError as error:
        return error


@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_after_a_kill_only_open_calls_are_uncertain_and_no_process_stays(
    tmp_path: Path,
) -> None:
    chance = seeded_chance()
    with database(tmp_path) as database_url, ScriptedLLM.in_thread() as llm:
        settings = "disconnect_grace_s = 0\nshell_pool_size = 1\nmax_concurrent_runs = 12\n"
        gateway = GatewayProcess(tmp_path, llm.base_url, settings, database_url=database_url, is_warm=True)
        gateway.write_profiles(**PROFILES)
        scene = Scene(gateway, llm, await make_keys(gateway), chance)
        await scene.start()
        try:
            for number in range(ROUNDS):
                before, first = scene.books(), llm.traffic.received + 1
                clients, dead = await killed_under_load(scene, drain=number % 3 == 1)
                truth = Truth.of(llm, first)
                if chance.random() < 0.3:  # once more, while it starts
                    await asyncio.to_thread(gateway.begin)
                    await scene.moment(4)
                    await scene.kill()
                await scene.start()
                after = scene.books()
                print(
                    f"round {number}: {sum(truth.calls.values())} calls, {len(dead.live())} live, {len(dead.open_holds())} holds"
                )
                check_accounts(before, dead, after, truth)
                check_nothing_of_the_dead_stays(scene, dead, after)
                await check_what_clients_are_told(scene, clients, dead)
                assert scene.books().disagreements() == []
                for client in clients:
                    await client.api.close()
        finally:
            await scene.kill()
    assert "Traceback" not in gateway.log


@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_a_gateway_that_is_killed_in_its_first_start_starts_the_next_time(tmp_path: Path) -> None:
    chance = seeded_chance()
    with ScriptedLLM.in_thread() as llm:
        for number in range(ROUNDS):
            gateway = GatewayProcess(tmp_path / str(number), llm.base_url, "shell_pool_size = 0\n")
            gateway.begin()
            await until(gateway.data_dir.exists)  # from here on something may be left half done
            await asyncio.sleep(chance.uniform(0, 0.5))
            await asyncio.to_thread(gateway.end)
            async with open_store(gateway.database_url, SystemClock()) as store:
                assert await store.keys.list_keys() == []
        gateway.begin()
        try:
            await gateway.answers()
        finally:
            await asyncio.to_thread(gateway.end)


@contextmanager
def database(home: Path) -> Iterator[str]:
    """Make an empty database and yield its URL."""
    if os.environ.get("KILL_DATABASE") != "postgresql":
        yield sqlite_url(home / "data" / "gateway.db")
        return
    with running_postgresql(required_postgresql()) as server:
        yield make_postgresql_database(server.directory)


async def make_keys(gateway: GatewayProcess) -> list[tuple[str, str]]:
    gateway.data_dir.mkdir(parents=True)
    caps = SpendCaps(day_micro_usd=200_000_000)
    async with open_store(gateway.database_url, SystemClock()) as store:
        return [(name, (await store.keys.create_key(name, caps=caps))[1]) for name in (*CALM, *RASH)]
