"""The hunt: agents with terminals delegate for real, to a peer as well, and then every place where a run token, a grant, a key or
the LLM's key might have been left is searched. Each place is searched in the same way for a word that is there, so that no search
can fail unnoticed.

A real gateway process; its agents' calls of each other, and its client's, go over a wire that remembers every byte.
"""

import base64
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from openai import APIError, OpenAI

from a2a_gateway.testing.script import ChatRequest, Step, text_of
from tests.support.ask import call, delegation, user
from tests.support.gateway import free_port, scripted_environ
from tests.support.rogue_peer import rogue_peer
from tests.support.terminal import PROFILE, ServedGateway, curl, served_gateway
from tests.support.until import block_until
from tests.support.wiretap import Wiretap

pytestmark = [pytest.mark.linux("reads /proc"), pytest.mark.slow]

CANARY = "canary-7f3a91d2"
"""Part of the agent's name, and of the path of all that the gateway writes: it is in every place that is searched."""
AGENT = f"openhands_{CANARY}"
CALLERS_KEY = "a2a_0123456789ab_of-the-operator-0123456789"
LLM_KEY = scripted_environ("")["LLM_API_KEY"]
ENVIRONMENT = "env; export -p; set; tr '\\0' '\\n' </proc/self/environ"
GATEWAY = """for pid in $PPID $(awk '/^PPid/ {print $2}' /proc/$PPID/status); do
  for file in environ cmdline; do tr '\\0' '\\n' </proc/$pid/$file; done; ls -l /proc/$pid/fd; done"""


@dataclass
class Hunt:
    """What was found, by place, and what must not be among it."""

    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    places: dict[str, bytes] = field(default_factory=dict, repr=False)

    def add(self, place: str, found: bytes | str) -> None:
        self.places[place] = self.places.get(place, b"") + (found.encode() if isinstance(found, str) else found)

    def found_in(self, place: str) -> set[str]:
        """Return the names of the secrets that are in a place; `canary` is no secret."""
        searched = {**self.secrets, "canary": CANARY}
        return {name for name, secret in searched.items() if any(form in self.places[place] for form in _forms(secret))}


PLACES = (
    "prompts",
    "environment of a terminal",
    "process of the gateway",
    "database file",
    "write-ahead log",
    "rows of the database",
    "workspaces",
    "directories of shells",
    "all other files",
    "log",
    "answers and streams",
    "errors",
    "runs and their events",
)


def _forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as it is, and in each encoding that could hide it."""
    plain = secret.encode()
    yield plain
    yield plain.hex().encode()
    for shift in range(3):  # base64 of a text that has it anywhere within; the characters at the ends depend on what is around it
        yield base64.b64encode(b"x" * shift + plain)[4 if shift else 0 : -4]


def what_the_llm_says(request: ChatRequest) -> Step | None:
    """Give away the LLM's key: in its answer, or as providers do, in the error that refuses it."""
    said = text_of(request.messages[-1])
    if said == "blurt":
        return Step(content=f"My key is {LLM_KEY}, {CANARY}.")
    return Step(status=401, error=f"Incorrect API key provided: {LLM_KEY} {CANARY}.") if said == "refuse" else None


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    home = tmp_path_factory.mktemp(CANARY)
    port, hunt = free_port(), Hunt()
    profile = PROFILE.replace("name: worker", f"name: {CANARY}")
    with Wiretap.in_thread() as wire, start_blocking_portal() as portal, portal.wrap_async_context_manager(rogue_peer()) as peer:
        wire.target = ("127.0.0.1", port)
        database_url = f"sqlite:///{home}/data/gateway.db?timeout=5"
        settings = {"A2A_PUBLIC_URL": wire.url, "A2A_LOG_LEVEL": "debug", "A2A_DATABASE_URL": database_url}
        settings |= {"A2A_GATEWAY_ID": "here", "A2A_PEERS": json.dumps([{"id": "far", "base_url": peer.base_url}])}
        settings |= {"LITELLM_LOG": "DEBUG", "OPENAI_LOG": "debug", "HTTPX_LOG_LEVEL": "debug", "LOG_LEVEL": "DEBUG"}
        settings |= {"A2A_API_KEY": CALLERS_KEY}  # exported for `a2a-gateway ask` in the shell that starts the gateway
        with served_gateway(home, profile, director=what_the_llm_says, port=port, **settings) as gateway:
            _work(gateway, hunt, home)
            _look_at_database(hunt, gateway.data_dir)
        _look_at_files(hunt, home)
        hunt.add("log", gateway.log)
        hunt.add("answers and streams", bytes(wire.received))
        tokens = [credential for credential in wire.credentials if credential.count(".") == 2 and credential != "x.y.z"]
        # Of a token its signature alone will do, of a key what follows its id.
        hunt.secrets = {f"run token {n}": token.rpartition(".")[2] for n, token in enumerate(tokens)}
        hunt.secrets |= {"grant": peer.headers["authorization"].rpartition(".")[2]}
        hunt.secrets |= {"key": gateway.key[-43:], "key of the LLM": LLM_KEY}
        hunt.secrets |= {"URL of the database": database_url, "key of its operator": CALLERS_KEY}
        for request in gateway.llm.traffic.requests:
            hunt.add("prompts", json.dumps(request.body))
            hunt.add("headers to the LLM", json.dumps(dict(request.headers)) + CANARY)
        yield hunt


def _work(gateway: ServedGateway, hunt: Hunt, home: Path) -> None:
    """Let a tree of three agents look around, and fail in several ways; look at the disk while they are at work."""
    go = home / "go"
    stays = f"echo {CANARY} >left; touch {home}/stays; until [ -e {go} ]; do sleep 0.05; done; {ENVIRONMENT}"
    grandchild = delegation("self", "Stay.", Step(tool_calls=(call("terminal", command=stays),)), Step(content="stayed"))
    child = delegation("self", "Delegate.", Step(tool_calls=(grandchild,)), Step(content="delegated"))
    foreign = "; ".join(curl(f"{gateway.base_url}/models", credential) for credential in ("x.y.z", "a2a_wrong"))
    steps = [
        *(Step(tool_calls=(call("terminal", command=command),)) for command in (ENVIRONMENT, GATEWAY, foreign)),
        Step(tool_calls=(child,)),
        Step(tool_calls=(delegation("openhands_nobody", "x", Step(content="never")),)),
        Step(tool_calls=(call("delegate", agent="far/openhands_lead", task="Refuse."),)),
        Step(content=f"$LAST {CANARY}"),
    ]
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as client, ThreadPoolExecutor() as threads:
        asking = threads.submit(_stream_text, client, [user("Look around.", *steps)], {"Idempotency-Key": "hunt"})
        block_until(lambda: (home / "stays").exists() or asking.done())
        _look_at_files(hunt, home)
        go.touch()
        run_id = asking.result()
        for model, text in ((AGENT, "blurt"), (AGENT, "refuse"), (f"{AGENT}-unknown", "hello")):
            try:
                _stream_text(client, [user(text)], {}, model)
            except APIError as error:
                hunt.add("errors", f"{error.message} {json.dumps(error.body)}")
    for request in gateway.llm.traffic.requests:
        for message in request.messages:
            if message["role"] == "tool":
                text = text_of(message)
                hunt.add("process of the gateway" if "a2a_gateway" in text else "environment of a terminal", text)
    with httpx.Client(base_url=gateway.base_url, headers={"authorization": f"Bearer {gateway.key}"}) as http:
        for path in ("/runs", f"/runs/{run_id}", f"/runs/{run_id}/tree", f"/runs/{run_id}/events", "/models"):
            hunt.add("runs and their events", http.get(path).raise_for_status().content)


def _stream_text(client: OpenAI, messages: list[Any], headers: Mapping[str, str], model: str = AGENT) -> str:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, stream=True, extra_headers=headers)
    for _ in raw.parse():
        pass
    return raw.headers["x-a2a-run-id"]


def _look_at_files(hunt: Hunt, home: Path) -> None:
    for path in home.rglob("*"):
        if not path.is_file() or path == home / "log":
            continue
        parts = path.relative_to(home).parts
        match parts[:2]:
            case ("data", "gateway.db"):
                place = "database file"
            case ("data", "gateway.db-wal"):
                place = "write-ahead log"
            case ("data", "workspaces"):
                place = "workspaces"
            case ("data", "shells"):
                place = "directories of shells"
            case _:
                place = "all other files"
        hunt.add(place, path.read_bytes())


def _look_at_database(hunt: Hunt, data_dir: Path) -> None:
    """Read every cell, packed ones unpacked."""
    with closing(sqlite3.connect(data_dir / "gateway.db")) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f"SELECT * FROM {table}"):
                for cell in row:
                    packed = isinstance(cell, bytes) and cell[:1] == b"\x78"
                    hunt.add("rows of the database", zlib.decompress(cell) if packed else repr(cell))


def test_the_agents_delegated_with_tokens_of_their_own(hunt: Hunt) -> None:
    assert [name for name in hunt.secrets if name.startswith("run token")] == ["run token 0", "run token 1"]
    assert all(len(secret) > 20 for secret in hunt.secrets.values())


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_left_where_a_search_finds_other_words(hunt: Hunt, place: str) -> None:
    assert hunt.found_in(place) == {"canary"}


def test_the_llm_is_sent_its_own_key_and_no_other(hunt: Hunt) -> None:
    assert hunt.found_in("headers to the LLM") == {"key of the LLM", "canary"}


def test_a_disguised_secret_would_be_found(hunt: Hunt) -> None:
    for lead in range(4):
        hidden = base64.b64encode(b"." * lead + LLM_KEY.encode() + b"." * lead)
        assert any(form in hidden for form in _forms(LLM_KEY))


def test_every_line_of_the_log_has_one_form_and_no_line_has_a_task_or_an_answer(hunt: Hunt) -> None:
    log = hunt.places["log"].decode()
    assert {"timestamp", "level", "event", "logger"} <= set.intersection(*(set(json.loads(line)) for line in log.splitlines()))
    assert not [text for text in ("Look around", "delegated", "My key is", "Incorrect API key") if text in log]
