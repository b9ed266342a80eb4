"""What the command line prints where it cannot do what it was asked to: the exit code, and a text on standard error."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from typer.testing import Result

from a2a_gateway.peers import SigningKey
from tests.cli.conftest import CommandLine

type Command = Callable[[CommandLine, Path], Result]

_UNUSED: Final = "http://127.0.0.1:9/v1"


def running(*arguments: str, **environ: str | None) -> Command:
    return lambda command_line, _: command_line.run(*arguments, **environ)


def asking(*arguments: str, **environ: str) -> Command:
    """A command that asks a gateway where there is none."""
    return running(*arguments, **{"A2A_BASE_URL": _UNUSED, "A2A_API_KEY": "key", **environ})


def _data_dir_below_a_file(command_line: CommandLine, directory: Path) -> Result:
    (directory / "file").touch()
    return command_line.run("keys", "list", A2A_DATA_DIR=str(directory / "file" / "data"))


def _files_below_a_file(command_line: CommandLine, directory: Path) -> Result:
    (directory / "file").touch()
    return command_line.run("demo", "--keep", str(directory / "file" / "kept"))


def _files_that_exist(command_line: CommandLine, directory: Path) -> Result:
    return command_line.run("demo", "--keep", str(directory))


CASES: dict[str, Command] = {
    "exit 1: no key": running("ask", "openhands_default", "hello"),
    "exit 1: no gateway": asking("runs", "list"),
    "exit 2: a key that no header can hold": asking("runs", "list", A2A_API_KEY="a\nb"),
    "exit 1: a database that cannot be reached": running("keys", "list", A2A_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:9/d"),
    "exit 1: a data directory that cannot be made": _data_dir_below_a_file,
    "exit 1: a user without a home": running("keys", "list", HOME="~"),
    "exit 2: a key's budget that is no amount": running("keys", "create", "x", "--budget-usd", "much"),
    "exit 1: a peer without a gateway_id": running(
        "peer", "add", "--id", "box", "--public-key", SigningKey.generate().public_key
    ),
    "exit 2: a peer that nothing names": running("peer", "add", A2A_GATEWAY_ID="laptop"),
    "exit 1: a peer that publishes no keys": running("peer", "add", _UNUSED, A2A_GATEWAY_ID="laptop"),
    "exit 2: the demo's files in a directory that exists": _files_that_exist,
    "exit 2: the demo's files where none can be made": _files_below_a_file,
}
