"""Run a gateway in a process of its own while a command needs it: start it as a user would, and end it with SIGINT."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from a2a_gateway.cli.command_error import CommandError

_END_WITHIN_S: Final = 20.0
_LOG_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class OwnGateway:
    """A gateway that was started: its URL, the key that its first start created, and its models."""

    url: str
    key: str
    models: tuple[str, ...]


@contextmanager
def own_gateway(data_dir: Path, profiles: Path, environ: Mapping[str, str]) -> Iterator[OwnGateway]:
    """Start a gateway on a free port and end it with the context; its log is `data_dir`/gateway.log.

    Args:
        data_dir: an empty directory, for all that the gateway writes.
        environ: added to this process's environment, without the variables that configure other gateways.

    Raises:
        CommandError: the gateway did not start.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("A2A_")}
    command = [sys.executable, "-m", "a2a_gateway", "serve", "--json", "--port", "0"]
    # An empty settings file, so that the one in the current directory is not read.
    config, log_path = data_dir / "gateway.toml", data_dir / "gateway.log"
    config.touch()
    command += ["--data-dir", str(data_dir), "--profiles", str(profiles), "--config", str(config)]
    with log_path.open("wb") as log, _process(command, {**inherited, **environ}, log) as process:
        announcement = process.stdout.readline() if process.stdout else ""
        if not announcement:
            raise CommandError("The gateway did not start.", _last_lines(log_path))
        ready = json.loads(announcement)
        key_file = Path(ready["first_key_file"])
        key = key_file.read_text().strip()
        key_file.unlink()  # agents could read it
        yield OwnGateway(ready["url"], key, tuple(ready["models"]))


@contextmanager
def _process(command: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    # A session of its own, so that Ctrl-C reaches only this process, which first cancels the run and then ends the gateway.
    with subprocess.Popen(  # noqa: S603  # this interpreter, with arguments made here
        command, env=dict(environ), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
