"""An agent that has found a key of its gateway, and uses it from its terminal: refused, however it goes about it.

A real gateway process with its default settings, real terminals, real `curl`.
"""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from psutil import STATUS_ZOMBIE, NoSuchProcess, Process, process_iter

from a2a_gateway.testing.script import Step
from tests.support.ask import call, user
from tests.support.terminal import AGENT, ServedGateway, chat, curl, served_gateway, types
from tests.support.until import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.linux("only Linux lists the process of a connection"),
]

EVASIVE = Path(__file__).with_name("evasive.py")
WAIT = "until [ -e done ]; do sleep 0.02; done; cat out"
WAYS = {
    "plainly": ("{curl} > out", "cat out"),
    "without an environment": ("env -i $(command -v env) PATH=$PATH {curl} > out", "cat out"),
    "in the background": ("({curl} > out; touch done) &", WAIT),
    "detached": ("setsid nohup sh -c {quoted} >/dev/null 2>&1 &", WAIT),
    "from a daemon without an environment": ("(env -i PATH=$PATH setsid sh -c {quoted} </dev/null >/dev/null 2>&1 &)", WAIT),
    "from an orphan of an orphan": ("( (sh -c {quoted} &) & ) >/dev/null 2>&1", WAIT),
    "from a script in another language": (f"{shlex.quote(sys.executable)} -c {{python}} > out", "cat out"),
    "from another loopback address": ("{curl} --interface 127.0.0.7 > out", "cat out"),
}
FORGED = {
    "X_A2A_Depth": "0",
    "X_A2A_Max_Depth": "99",
    "X_A2A_Budget_USD": "1000",
    "X_A2A_Via": "somewhere-else",
    "X_Forwarded_For": "203.0.113.7",
    "Forwarded": "for=203.0.113.7",
    "X_Real_IP": "203.0.113.7",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    with served_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


async def ask(gateway: ServedGateway, *messages: Any, **options: Any) -> str:
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=AGENT, messages=list(messages), **options)
    return completion.choices[0].message.content or ""


async def roots(gateway: ServedGateway) -> list[str]:
    """Return the trees that the key has started."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {gateway.key}"}) as http:
        return [run["id"] for run in (await http.get(f"{gateway.base_url}/runs?limit=100")).json()["data"]]


def address_of(gateway: ServedGateway) -> list[str]:
    return gateway.base_url.removeprefix("http://").removesuffix("/v1").split(":")


def refused_runs(log: str) -> int:
    return log.count("key_from_")


def in_words_of(command: str) -> dict[str, str]:
    """Return one request in the forms that `WAYS` need."""
    script = f"import subprocess; subprocess.run({shlex.split(command)!r})"
    return {"curl": command, "quoted": shlex.quote(f"{command} > out; touch done"), "python": shlex.quote(script)}


@pytest.mark.parametrize("way", WAYS)
async def test_a_stolen_key_starts_no_tree(gateway: ServedGateway, way: str) -> None:
    command = curl(f"{gateway.base_url}/chat/completions", gateway.key, chat())
    before = len(await roots(gateway))
    text = await ask(gateway, types(*(step.format(**in_words_of(command)) for step in WAYS[way])))
    assert "HTTP/1.1 403" in text
    assert '"code":"root_key_from_agent"' in text
    assert "x-should-retry: false" in text
    assert len(await roots(gateway)) == before + 1  # the agent's own


@pytest.mark.parametrize("way", ["hidden", "thread", "relay"])
async def test_a_process_that_takes_pains_not_to_be_seen_is_refused(gateway: ServedGateway, way: str) -> None:
    command = shlex.join([sys.executable, str(EVASIVE), way, *address_of(gateway), gateway.key])
    text = await ask(gateway, types(f"{command} >out 2>&1; until grep -q code out; do sleep 0.02; done; cat out"))
    assert '"code":"root_key_from_agent"' in text


async def test_what_an_agent_leaves_behind_when_its_shell_ends_starts_no_tree(gateway: ServedGateway) -> None:
    late = gateway.data_dir.parent / "late"
    command = curl(f"{gateway.base_url}/chat/completions", gateway.key, chat())
    script = f"sleep 0.2; {command} >{late}; touch {late}.done"
    leave = f"(env -i PATH=$PATH setsid sh -c {shlex.quote(script)} </dev/null >/dev/null 2>&1 &); exit"
    before = len(await roots(gateway))
    await ask(gateway, types(leave, "sleep 0.5"))
    await until(lambda: not any(str(late) in " ".join(process.info["cmdline"] or ()) for process in process_iter(["cmdline"])))
    assert len(await roots(gateway)) == before + 1


async def test_an_agent_that_kills_all_that_stands_above_it_is_refused_all_the_same(gateway: ServedGateway) -> None:
    command = curl(f"{gateway.base_url}/chat/completions", gateway.key, chat())
    late = gateway.data_dir.parent / "kept"
    script = shlex.quote(f"while kill -0 $0 2>/dev/null; do sleep 0.02; done; {command} >{late}; touch {late}.done")
    kill = f"(env -i PATH=$PATH setsid sh -c {script} $PPID </dev/null >/dev/null 2>&1 &); kill -9 $PPID; sleep 60"
    text = await ask(gateway, types(kill, f"until [ -e {late}.done ]; do sleep 0.02; done; cat {late}"))
    assert '"code":"root_key_from_agent"' in text


async def test_of_processes_that_agents_have_left_no_trace_stays(gateway: ServedGateway) -> None:
    await ask(gateway, types("sleep 300 & (setsid sleep 300 &) & (env -i setsid sleep 300 &); kill -9 $PPID; sleep 60"))
    await ask(gateway, types("sleep 300 & (setsid sleep 300 &)"))

    async with asyncio.timeout(60):
        while any(_is_zombie(process) for process in Process(gateway.pid).children(recursive=True)):
            await roots(gateway)  # it looks when a request presents a key


def _is_zombie(process: Process) -> bool:
    try:
        return bool(process.status() == STATUS_ZOMBIE)
    except NoSuchProcess:
        return False


async def test_no_header_hides_where_a_stolen_key_comes_from(gateway: ServedGateway) -> None:
    text = await ask(gateway, types(curl(f"{gateway.base_url}/chat/completions", gateway.key, chat(), **FORGED)))
    assert '"code":"root_key_from_agent"' in text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models"),
        ("GET", f"/models/{AGENT}"),
        ("GET", "/runs"),
        ("GET", "/runs/{run}"),
        ("GET", "/runs/{run}/tree"),
        ("GET", "/runs/{run}/events"),
        ("POST", "/runs/{run}/cancel"),
        ("POST", "/runs/cancel"),
    ],
)
async def test_a_stolen_key_sees_and_stops_nothing(gateway: ServedGateway, method: str, path: str) -> None:
    await ask(gateway, user("Something private.", Step(content="private")))
    url = gateway.base_url + path.format(run=(await roots(gateway))[0])
    text = await ask(gateway, types(curl(url, gateway.key, method=method)))
    assert '"code":"root_key_from_agent"' in text


async def test_an_agent_that_hangs_up_before_it_can_be_looked_at_is_refused(gateway: ServedGateway) -> None:
    """`continue` would let its run go on without it."""
    host, port = address_of(gateway)
    body = json.dumps(chat())
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {gateway.key}\r\n"
        f"X-A2A-On-Disconnect: continue\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    before, refused = len(await roots(gateway)), refused_runs(gateway.log)
    send = f"exec 3<>/dev/tcp/{host}/{port}; printf %s {shlex.quote(request)} >&3; exec 3>&-"
    running = asyncio.create_task(
        ask(gateway, user("Work.", Step(tool_calls=(call("terminal", command=send),)), Step(content="done", gate="hung-up")))
    )
    await gateway.llm.wait_until(lambda traffic: traffic.waiting_at("hung-up") == 1)
    await until(lambda: refused_runs(gateway.log) > refused)
    gateway.llm.open_gate("hung-up")
    await running
    assert len(await roots(gateway)) == before + 1


async def test_clients_beside_the_agents_are_served_while_agents_are_at_work(gateway: ServedGateway) -> None:
    busy = "sleep 300 & while :; do /bin/true; done"
    working = asyncio.create_task(ask(gateway, types(f"touch {gateway.data_dir}/busy; {busy}")))
    await until((gateway.data_dir / "busy").exists)
    answers = [await ask(gateway, user(f"Hello {n}.", Step(content=f"hello {n}"))) for n in range(5)]
    command = curl(f"{gateway.base_url}/chat/completions", gateway.key, chat("from a process"), **FORGED)
    hidden = [sys.executable, str(EVASIVE), "hidden", *address_of(gateway), gateway.key]
    told = [await asyncio.to_thread(subprocess.check_output, each, text=True) for each in (shlex.split(command), hidden)]
    working.cancel()
    assert answers == [f"hello {n}" for n in range(5)]
    assert "from a process" in told[0]
    assert AGENT in told[1]


async def test_the_log_tells_the_operator_which_key_was_stolen_by_which_run(gateway: ServedGateway) -> None:
    await ask(gateway, types(curl(f"{gateway.base_url}/models", gateway.key)))
    last = [json.loads(line) for line in gateway.log.splitlines() if "key_from_agent_refused" in line][-1]
    assert last["run_id"] == (await roots(gateway))[0]
    assert last["key_id"] == re.fullmatch(r"a2a_([0-9a-f]{12})_.+", gateway.key)[1]  # type: ignore[index]
    assert (last["level"], last["path"]) == ("warning", "/v1/models")
    assert gateway.key not in gateway.log
