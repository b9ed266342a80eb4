"""Start the processes of the benchmark: the scripted LLM, and the gateway under test with its profiles and its key."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MODEL: Final = "openai/scripted"
LLM_KEY: Final = "irrelevant-but-long-enough"

# With prices, both the gateway and the bare SDK compute costs: a model without a price takes longer.
USD_PER_MTOK: Final = 1.0
_PRICES: Final = f"  input_usd_per_mtok: {USD_PER_MTOK}\n  output_usd_per_mtok: {USD_PER_MTOK}\n"
_PROFILES: Final[Mapping[str, str]] = {
    "plain": f"---\nname: plain\ndescription: No tools.\ntools: []\na2a:\n{_PRICES}---\nAnswer.\n",
    "shell": f"---\nname: shell\ndescription: A terminal.\ntools: [terminal]\na2a:\n{_PRICES}---\nAnswer.\n",
    "chain": f"---\nname: chain\ndescription: Delegates.\ntools: [delegate]\na2a:\n{_PRICES}  allowed_agents: [self]\n---\nGo.\n",
}


@dataclass(frozen=True, slots=True)
class Processes:
    """The started processes; `started_at` is the instant of the gateway's exec on the monotonic clock."""

    url: str
    llm_url: str
    key: str = field(repr=False)
    gateway_pid: int
    gateway_log: Path
    started_at: float


@contextmanager
def start_processes(home: Path) -> Iterator[Processes]:
    """Start the LLM and a gateway with an empty data directory below `home`; yield before the gateway is ready."""
    profiles = home / "profiles"
    profiles.mkdir()
    for name, text in _PROFILES.items():
        (profiles / f"{name}.md").write_text(text)
    with _llm() as llm_url, (home / "gateway.log").open("wb") as log:
        port = _free_port()
        environ = _environ(home, llm_url)
        made = subprocess.run(_gateway("keys", "create", "bench", "--json"), env=environ, check=True, stdout=subprocess.PIPE)
        key = json.loads(made.stdout)["key"]
        started_at = time.monotonic()
        process = subprocess.Popen(_gateway("serve", "--port", str(port)), env=environ, stdout=log, stderr=log)
        try:
            yield Processes(f"http://127.0.0.1:{port}", llm_url, key, process.pid, home / "gateway.log", started_at)
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def _llm() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-m", "bench.llm"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def _gateway(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "a2a_gateway", *arguments]


def _environ(home: Path, llm_url: str) -> dict[str, str]:
    # Without the caller's own settings, so that two machines measure the same.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "LLM_", "OH_"))}
    return clean | {
        "A2A_DATA_DIR": str(home / "data"),
        "A2A_PROFILES": str(home / "profiles"),
        "A2A_MAX_DEPTH": "25",
        "A2A_BUDGET_USD": "none",
        "A2A_DISCONNECT_GRACE_S": "0",
        "A2A_LOG_LEVEL": "warning",
        "OH_PERSISTENCE_DIR": str(home / "openhands"),
        "LLM_MODEL": MODEL,
        "LLM_BASE_URL": llm_url,
        "LLM_API_KEY": LLM_KEY,
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
