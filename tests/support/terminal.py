"""What an agent types into its terminal to call the gateway by itself, and gateways for it to call."""

import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from a2a_gateway.testing.script import Director, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, direct, user
from tests.support.gateway import free_port
from tests.support.process import GatewayProcess

AGENT = "openhands_worker"
PROFILE = """---
name: worker
description: Works.
tools: [terminal, delegate]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You work."""


@dataclass(frozen=True)
class ServedGateway:
    """A gateway in a process of its own, as `a2a-gateway serve` starts it, and its scripted LLM."""

    base_url: str
    key: str
    process: GatewayProcess = field(repr=False)
    llm: ScriptedLLM = field(repr=False)

    @property
    def data_dir(self) -> Path:
        return self.process.data_dir

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self.process.log

    @property
    def pid(self) -> int:
        assert self.process.process is not None
        return self.process.process.pid

    def client(self, key: str | None = None) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.base_url, api_key=key or self.key, max_retries=0)


@contextmanager
def served_gateway(
    home: Path, profile: str = PROFILE, *, director: Director = direct, port: int | None = None, **environ: str
) -> Iterator[ServedGateway]:
    """Start a gateway whose agent `AGENT` has a terminal and runs on a scripted LLM. `environ` is added to its environment."""
    with ScriptedLLM.in_thread(direct=director) as llm:
        process = GatewayProcess(home, llm.base_url, port=port or free_port(), environ=environ)
        process.write_profiles(worker=profile)
        announced = process.start()
        try:
            yield ServedGateway(announced["url"], announced["first_key"], process, llm)
        finally:
            process.end(signal.SIGINT)


def curl(url: str, secret: str | Path, body: dict[str, Any] | None = None, *, method: str = "GET", **headers: str) -> str:
    """Write a command that sends one request and prints the answer's headers and body.

    `secret` is the key, or a file that holds it once the command runs. Underscores in the names of headers are hyphens.
    """
    sent = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    parts = ["curl", "--silent", "--include", "--max-time", "60", "--request", "POST" if body else method, url]
    parts += ["--oauth2-bearer", secret] if isinstance(secret, str) else []
    parts += [part for header in sent for part in ("--header", header)]
    if body is not None:
        parts += ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
    command = shlex.join(parts)
    return command if isinstance(secret, str) else f'{command} --oauth2-bearer "$(cat {shlex.quote(str(secret))})"'


def chat(answer: str = "a tree of its own") -> dict[str, Any]:
    """Return a request for a run of the same agent that answers with a text."""
    return {"model": AGENT, "messages": [user("Sub-task.", Step(content=answer))]}


def types(*commands: str) -> Any:
    """Return a user message; the agent types the commands one after the other, and answers with the output of the last."""
    typed = [Step(tool_calls=(call("terminal", command=command),)) for command in commands]
    return user("Work.", *typed, Step(content="$LAST"))
