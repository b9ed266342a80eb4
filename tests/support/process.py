"""A gateway as a process of its own, which can be killed and started again where it was."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from a2a_gateway.stores import sqlite_url
from tests.support.gateway import free_port, scripted_environ
from tests.support.until import until
from tests.support.warm_python import WarmProcess, start_warm


@dataclass
class GatewayProcess:
    """`a2a-gateway serve` in one directory and on one port, started as often as a test likes.

    Attributes:
        home: holds the data directory, the profiles and the log.
        settings: more lines of its `gateway.toml`.
        database_url: SQLite in its data directory unless another is given.
        is_warm: whether `start` may fork it, for tests in which its start is not the subject; see `warm_python`.
        process: the latest one.
    """

    home: Path
    llm_url: str
    settings: str = ""
    port: int = field(default_factory=free_port)
    environ: dict[str, str] = field(default_factory=dict)
    database_url: str = ""
    is_warm: bool = False
    process: "subprocess.Popen[str] | WarmProcess | None" = None

    def __post_init__(self) -> None:
        self.database_url = self.database_url or sqlite_url(self.data_dir / "gateway.db")

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def url(self) -> str:
        """The server's root."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def write_profiles(self, **definitions: str) -> None:
        (self.home / "profiles").mkdir(parents=True, exist_ok=True)
        for name, text in definitions.items():
            (self.home / "profiles" / f"{name}.md").write_text(text)

    def begin(self) -> "subprocess.Popen[str]":
        """Start the process, and do not wait for it."""
        command, environ = self._command()
        with (self.home / "log").open("a") as log:
            self.process = process = subprocess.Popen(
                [sys.executable, "-m", "a2a_gateway", *command], env=environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        return process

    def start(self) -> Any:
        """Start the process, and wait until it takes runs; returns what it announces, with the key of a first start."""
        if self.is_warm and sys.platform == "linux":
            with (self.home / "log").open("a") as log:
                self.process = start_warm(*self._command(), stderr=log.fileno())
        else:
            self.begin()
        assert self.process is not None
        assert self.process.stdout is not None
        announced = self.process.stdout.readline()
        assert announced, f"it did not start: {self.log[-2000:]}"
        ready = json.loads(announced)
        if ready["first_key_file"] is not None:
            key_file = Path(ready["first_key_file"])
            ready["first_key"] = key_file.read_text().strip()
            key_file.unlink()  # as every reader should: agents could read it
        return ready

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """Write its files; return its arguments and its environment."""
        self.write_profiles()
        config = self.home / "gateway.toml"
        own = f'data_dir = "{self.data_dir}"\nprofiles = ["{self.home}/profiles"]\ndatabase_url = "{self.database_url}"\n'
        config.write_text(f"{own}llm_retries = 0\n{self.settings}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "LLM_", "OH_"))}
        environ = scripted_environ(self.llm_url, OH_PERSISTENCE_DIR=str(self.home / "openhands"), **self.environ)
        return ["serve", "--json", "--port", str(self.port), "--config", str(config)], {**clean, **environ}

    async def answers(self) -> None:
        """Wait until the process answers, which is long before it takes runs."""
        async with httpx.AsyncClient(base_url=self.url) as http:

            async def is_healthy() -> bool:
                try:
                    return (await http.get("/health")).is_success
                except httpx.TransportError:  # it does not listen yet
                    return False

            await until(is_healthy, timeout_s=60)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End the process by a signal, unless it has ended; returns its exit code: negative where a signal was its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        assert self.process is not None
        with self.process:  # closes its output
            return self.process.wait()
