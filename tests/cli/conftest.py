"""A gateway on a scripted LLM, and the command line that asks it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from a2a_gateway.cli.app import app
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.gateway import GatewayUnderTest, scripted_gateway


@dataclass(frozen=True)
class CommandLine:
    """Runs commands in this process, with an environment of their own."""

    environ: Mapping[str, str]

    def run(self, *arguments: str, stdin: str | None = None, **environ: str | None) -> Result:
        """Run a command; an environment variable given as None is not set."""
        return CliRunner().invoke(app, list(arguments), input=stdin, env={**_UNSET, **self.environ, **environ})

    def run_json(self, *arguments: str, **environ: str | None) -> Any:
        """Run a command that succeeds, with `--json`, and return what it printed."""
        result = self.run(*arguments, "--json", **environ)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a command as a process of its own."""
        return self.start_on(subprocess.PIPE, *arguments, **environ)

    def start_on(self, stdout: int, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a command with this file descriptor as its output."""
        command = [sys.executable, "-m", "a2a_gateway", *arguments]
        inherited = {name: value for name, value in os.environ.items() if name not in _UNSET}
        return subprocess.Popen(
            command, env={**inherited, **self.environ, **environ}, stdout=stdout, stderr=subprocess.PIPE, text=True
        )


_UNSET: Mapping[str, None] = dict.fromkeys(
    ["A2A_BASE_URL", "A2A_API_KEY", "A2A_DATA_DIR", "A2A_PORT", "A2A_HOST", "LLM_MODEL", "LLM_API_KEY", "LLM_BASE_URL"]
)


@dataclass(frozen=True)
class Served(CommandLine):
    """A command line that knows a running gateway and its key."""

    gateway: GatewayUnderTest
    llm: ScriptedLLM
    environ: Mapping[str, str] = field(repr=False)


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    """A machine on which nothing has been set up."""
    return CommandLine({"A2A_DATA_DIR": str(tmp_path / "data"), "OH_PERSISTENCE_DIR": str(tmp_path / "openhands")})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A machine on which a gateway is running."""
    data_dir = tmp_path_factory.mktemp("gateway")
    # It would wait for a client that has gone: a command that ends a run has to cancel it.
    with scripted_gateway(data_dir, disconnect_grace_s=60) as (gateway, llm):
        environ = {
            "A2A_DATA_DIR": str(data_dir),
            "A2A_BASE_URL": gateway.base_url,
            "A2A_API_KEY": gateway.key,
            "OH_PERSISTENCE_DIR": str(data_dir / "openhands"),
        }
        yield Served(environ, gateway, llm)


@pytest.fixture
def unused_port() -> int:
    """A port on which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
