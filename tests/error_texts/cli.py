"""What the command line prints where it cannot do what it was asked to: the exit code, and a text on standard error."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from typer.testing import Result

from a2a_gateway.peers import SigningKey
from tests.cli.conftest import CommandLine

type Command = Callable[[CommandLine, Path], Result]

_UNUSED: Final = "http://127.0.0.1:9/v1"
_KEY: Final = SigningKey.generate().public_key


def run(*arguments: str, **environ: str | None) -> Command:
    return lambda command_line, _: command_line.run(*arguments, **environ)


def run_without_gateway(*arguments: str, **environ: str) -> Command:
    """Run a command that needs a gateway where no gateway runs."""
    return run(*arguments, **{"A2A_BASE_URL": _UNUSED, "A2A_API_KEY": "key", **environ})


def _data_dir_below_a_file(command_line: CommandLine, directory: Path) -> Result:
    (directory / "file").touch()
    return command_line.run("keys", "list", A2A_DATA_DIR=str(directory / "file" / "data"))


def _files_below_a_file(command_line: CommandLine, directory: Path) -> Result:
    (directory / "file").touch()
    return command_line.run("demo", "--keep", str(directory / "file" / "kept"))


def _files_that_exist(command_line: CommandLine, directory: Path) -> Result:
    return command_line.run("demo", "--keep", str(directory))


def ask_with_file(data: bytes | None) -> Command:
    """Ask with a file of this content, or with one that is missing."""

    def command(command_line: CommandLine, directory: Path) -> Result:
        if data is not None:
            (directory / "file").write_bytes(data)
        return command_line.run("ask", "openhands_default", "Read it.", "--file", str(directory / "file"), A2A_API_KEY="key")

    return command


def ask_in(name: str, url: str) -> Command:
    """Ask for work in a directory of this name."""
    return lambda command_line, directory: command_line.run(
        "ask", "openhands_default", "x", "--workspace", str(directory / name), A2A_API_KEY="key", A2A_BASE_URL=url
    )


def add_peer(*arguments: str) -> Command:
    return run("peer", "add", *arguments, A2A_GATEWAY_ID="laptop")


CASES: dict[str, Command] = {
    "exit 1: no key": run("ask", "openhands_default", "hello"),
    "exit 1: no gateway": run_without_gateway("runs", "list"),
    "exit 2: a key that no header can hold": run_without_gateway("runs", "list", A2A_API_KEY="a\nb"),
    "exit 2: an empty task": run_without_gateway("ask", "openhands_default", " "),
    "exit 2: a chat without a terminal": run_without_gateway("chat", "openhands_default"),
    "exit 2: a file for a task that is missing": ask_with_file(None),
    "exit 2: a file for a task that is not text": ask_with_file(b"\0"),
    "exit 2: a file for a task that is too large": ask_with_file(b"x" * 1_000_001),
    "exit 2: a workspace that is missing": ask_in("missing", "http://127.0.0.1:9/v1"),
    "exit 2: a workspace for a gateway elsewhere": ask_in("", "http://192.0.2.1:8420/v1"),
    "exit 1: a database that cannot be reached": run("keys", "list", A2A_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:9/d"),
    "exit 1: a data directory that cannot be made": _data_dir_below_a_file,
    "exit 1: a user without a home": run("keys", "list", HOME="~"),
    "exit 2: a key's budget that is no amount": run("keys", "create", "x", "--budget-usd", "much"),
    "exit 1: a peer without a gateway_id": run("peer", "add", "--id", "box", "--public-key", _KEY),
    "exit 2: an id that is too short": run_without_gateway("runs", "show", "3f2"),
    "exit 2: a peer's budget that is no amount": add_peer("--id", "box", "--public-key", _KEY, "--accept-budget-usd", "much"),
    "exit 2: a peer that nothing names": add_peer(),
    "exit 1: a peer that publishes no keys": add_peer(_UNUSED),
    "exit 2: a peer at what is no URL": add_peer("not a url"),
    "exit 1: a peer with the gateway's own id": add_peer("--id", "laptop", "--public-key", _KEY),
    "exit 2: a peer whose id begins like a profile's": add_peer("--id", "openhands_x", "--public-key", _KEY),
    "exit 1: no LLM to check": run("llms", "check"),
    "exit 2: an LLM that is not configured": run("llms", "check", "fats", LLM_MODEL="openai/gpt-4o-mini"),
    "exit 0: a new key for grants": run("peer", "key", "--rotate"),
    "exit 2: a profile whose name no agent can have": run("profiles", "init", "../up"),
    "exit 2: a profile from a template without a name": run("profiles", "init", "--from", "coder"),
    "exit 2: the demo's files in a directory that exists": _files_that_exist,
    "exit 2: the demo's files where no directory can be made": _files_below_a_file,
}

SERVED: dict[str, Command] = {"exit 4: a URL without its end": run("runs", "list")}
"""Of commands that know a running gateway, by its URL with another end than `/v1`."""

PEERS: Final = """gateway_id = "here"
[[peers]]
id = "no-key"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "NOT_SET"
[[peers]]
id = "down"
base_url = "http://127.0.0.1:9/v1"
api_key = "x"
[[peers]]
id = "unpriced"
base_url = "{base_url}"
api_key = "{key}"
opaque = true
"""
"""Settings with a peer for each finding."""
FINDINGS: dict[str, str] = {
    "doctor: a peer without a key": "peer no-key",
    "doctor: a peer that is down": "peer down",
    "doctor: a peer without prices": "peer unpriced",
}
"""What `doctor` finds wrong, by the name of the finding."""
