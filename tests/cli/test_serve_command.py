"""`a2a-gateway serve` as a process: what it announces works, and signals end it."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.cli.conftest import CommandLine
from tests.error_texts.texts import pattern_of
from tests.support.gateway import scripted_environ


@pytest.fixture(scope="module")
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM.in_thread() as llm:
        yield llm


def serve(command_line: CommandLine, llm: ScriptedLLM, *arguments: str) -> "subprocess.Popen[str]":
    return command_line.start("serve", "--port", "0", *arguments, **scripted_environ(llm.base_url))


def read_until(process: "subprocess.Popen[str]", last: str, output: IO[str] | None = None) -> list[str]:
    """Read the lines of the announcement, up to the one that begins with `last`."""
    lines: list[str] = []
    for line in output or process.stdout or ():
        lines.append(line.rstrip("\n"))
        if line.startswith(last):
            return lines
    raise AssertionError(f"ended after {lines}: {process.stderr and process.stderr.read()}")


def end(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> int:
    process.send_signal(number)
    process.communicate()
    return process.returncode


@dataclass(frozen=True)
class Start:
    """What was seen of one start, from its announcement to its end. Starting takes seconds, so tests look at the same two.

    Attributes:
        curl: what the pasted curl line printed; `ask` the exit code of an `ask` that ran when Ctrl-C came.
    """

    lines: list[str]
    exit_code: int
    curl: str = ""
    ask: int | None = None

    @property
    def key(self) -> str:
        (line,) = [line for line in self.lines if line.startswith("Key: ")]
        return line.removeprefix("Key: ")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A machine on which nothing has been set up."""
    home = tmp_path_factory.mktemp("machine")
    return CommandLine({"A2A_DATA_DIR": str(home / "data"), "OH_PERSISTENCE_DIR": str(home / "openhands")})


@pytest.fixture(scope="module")
def first_start(machine: CommandLine, llm: ScriptedLLM) -> Start:
    """The first start on a machine, on a terminal; its curl line pasted, and Ctrl-C while a run is under way."""
    controller, terminal = pty.openpty()
    process = machine.start_on(terminal, "serve", "--port", "0", **scripted_environ(llm.base_url))
    os.close(terminal)
    with process, open(controller) as screen:
        lines = read_until(process, "Ctrl-C", screen)
        (curl,) = [line for line in lines if line.startswith("curl ")]
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
        (url,) = [line.removeprefix("Serving at ") for line in lines if line.startswith("Serving at ")]
        task = '[[llm {"steps": [{"hang": true}]}]]'
        key = next(line.removeprefix("Key: ") for line in lines if line.startswith("Key: "))
        asking = machine.start("ask", "openhands_default", task, A2A_BASE_URL=url, A2A_API_KEY=key)
        with asking:
            llm.block_until(lambda traffic: traffic.in_flight == 1)
            exit_code = end(process)
            llm.block_until(lambda traffic: traffic.in_flight == 0)
            asking.communicate()
    return Start(lines, exit_code, answer, asking.returncode)


@dataclass(frozen=True)
class SecondStart(Start):
    """A later start on the same machine.

    Attributes:
        ready: its announcement; `states` those of the runs of the first start's key, the latest first.
        log: what it wrote to standard error.
    """

    ready: Mapping[str, object] = field(default_factory=dict)
    states: tuple[str, ...] = ()
    log: str = ""


@pytest.fixture(scope="module")
def second_start(
    machine: CommandLine, llm: ScriptedLLM, first_start: Start, tmp_path_factory: pytest.TempPathFactory
) -> SecondStart:
    """The next start on the same machine, with settings from everywhere, ended by SIGTERM."""
    config = tmp_path_factory.mktemp("config") / "gateway.toml"
    config.write_text('host = "127.0.0.3"\nport = 1\ngateway_id = "from-file"\n')
    config.with_name("warm.md").write_text("---\nname: warm\ntemperature: 0.2\n---\n")
    environ = {**scripted_environ(llm.base_url), "A2A_HOST": "127.0.0.2", "A2A_PROFILES": str(config.parent)}
    with machine.start("serve", "--json", "--port", "0", "--config", str(config), **environ) as process:
        lines = read_until(process, "{")
        ready = json.loads(lines[0])
        runs = machine.run_json("runs", "list", "--url", ready["url"], A2A_API_KEY=first_start.key)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate()
    return SecondStart(lines, process.returncode, ready=ready, states=tuple(run["state"] for run in runs), log=log)


def test_the_curl_line_of_the_first_start_works_when_pasted(first_start: Start) -> None:
    assert '"content":"ok"' in first_start.curl.replace(" ", "")
    assert "data: [DONE]" in first_start.curl
    assert "Models: openhands_default" in first_start.lines


def test_ctrl_c_ends_runs_too(first_start: Start) -> None:
    assert (first_start.exit_code, first_start.ask) == (0, 1)


def test_the_key_is_shown_by_the_first_start_alone_and_works_at_the_next(first_start: Start, second_start: SecondStart) -> None:
    assert (second_start.ready["first_key"], second_start.ready["first_key_file"]) == (None, None)
    assert second_start.states == ("cancelled", "finished")
    assert second_start.exit_code == 0


def test_settings_come_from_options_then_the_environment_then_the_file(second_start: SecondStart) -> None:
    url = str(second_start.ready["url"])
    assert url.startswith("http://127.0.0.2:")
    assert not url.startswith("http://127.0.0.2:1/")


def test_the_log_names_fields_of_profiles_that_have_no_effect(second_start: SecondStart) -> None:
    (warning,) = [json.loads(line) for line in second_start.log.splitlines() if "profile_warning" in line]
    assert (warning["line"], warning["message"].split()[0]) == (3, "temperature")
    assert second_start.ready["problems"] == []


def test_a_bind_that_others_can_reach_needs_a_key_first(command_line: CommandLine, llm: ScriptedLLM) -> None:
    with serve(command_line, llm, "--host", "0.0.0.0") as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert "a2a-gateway keys create NAME" in stderr
    assert "Traceback" not in stderr


def test_a_port_that_is_taken_is_told_in_a_line(command_line: CommandLine, llm: ScriptedLLM) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with command_line.start("serve", "--port", port, **scripted_environ(llm.base_url)) as process:
            _, stderr = process.communicate()
    assert process.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in stderr
    assert "Traceback" not in stderr


def test_a_start_that_fails_prints_a_line_and_names_unknown_variables(
    command_line: CommandLine, llm: ScriptedLLM, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environ = {"A2A_DATA_DIR": str(tmp_path / "file" / "data"), "A2A_MAX_DEPHT": "1"}
    with command_line.start("serve", "--port", "0", **scripted_environ(llm.base_url), **environ) as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert re.search(pattern_of("exit 1: a data directory that cannot be made"), stderr)
    assert str(tmp_path / "file" / "data") in stderr
    assert "A2A_MAX_DEPHT" in stderr
    assert "Traceback" not in stderr


def test_an_unknown_setting_in_the_file_is_named(command_line: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("max_dept = 3\n")
    result = command_line.run("serve", "--config", str(config))
    assert result.exit_code == 1
    assert "max_dept" in result.stderr
