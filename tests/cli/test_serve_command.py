"""`a2a-gateway serve` as a process: what it announces works, and signals end it."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.cli.conftest import CommandLine
from tests.support.gateway import scripted_environ


@pytest.fixture(scope="module")
def llm() -> Iterator[ScriptedLLM]:
    with ScriptedLLM.in_thread() as llm:
        yield llm


def serve(command_line: CommandLine, llm: ScriptedLLM, *arguments: str) -> "subprocess.Popen[str]":
    return command_line.start("serve", "--port", "0", *arguments, **scripted_environ(llm.base_url))


def read_until(process: "subprocess.Popen[str]", last: str) -> list[str]:
    """Read the lines of the announcement, up to the one that begins with `last`."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(last):
            return lines
    raise AssertionError(f"ended after {lines}: {process.stderr and process.stderr.read()}")


def end(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> int:
    process.send_signal(number)
    process.communicate()
    return process.returncode


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_line_of_the_first_start_works_when_pasted(command_line: CommandLine, llm: ScriptedLLM) -> None:
    with serve(command_line, llm) as process:
        lines = read_until(process, "Ctrl-C")
        (curl,) = [line for line in lines if line.startswith("curl ")]
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
        assert '"content":"ok"' in answer.replace(" ", "")
        assert "data: [DONE]" in answer
        assert "Models: openhands_default" in lines
        assert end(process) == 0


def test_the_key_is_shown_by_the_first_start_alone(command_line: CommandLine, llm: ScriptedLLM) -> None:
    with serve(command_line, llm, "--json") as process:
        first = json.loads(read_until(process, "{")[0])
        address = ("--url", first["url"])
        assert command_line.run_json("runs", "list", *address, A2A_API_KEY=first["first_key"]) == []
        assert end(process, signal.SIGTERM) == 0
    with serve(command_line, llm, "--json") as process:
        assert json.loads(read_until(process, "{")[0])["first_key"] is None
        assert end(process) == 0


def test_ctrl_c_ends_runs_too(command_line: CommandLine, llm: ScriptedLLM) -> None:
    with serve(command_line, llm, "--json") as process:
        ready = json.loads(read_until(process, "{")[0])
        task = '[[llm {"steps": [{"hang": true}]}]]'
        asking = command_line.start("ask", "openhands_default", task, A2A_BASE_URL=ready["url"], A2A_API_KEY=ready["first_key"])
        with asking:
            llm.block_until(lambda traffic: traffic.in_flight == 1)
            assert end(process) == 0
            llm.block_until(lambda traffic: traffic.in_flight == 0)
            asking.communicate()
        assert asking.returncode == 1


def test_settings_come_from_options_then_the_environment_then_the_file(
    command_line: CommandLine, llm: ScriptedLLM, tmp_path: Path
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('host = "127.0.0.3"\nport = 1\ngateway_id = "from-file"\n')
    environ = {**scripted_environ(llm.base_url), "A2A_HOST": "127.0.0.2"}
    with command_line.start("serve", "--json", "--port", "0", "--config", str(config), **environ) as process:
        url = json.loads(read_until(process, "{")[0])["url"]
        assert url.startswith("http://127.0.0.2:")
        assert not url.startswith("http://127.0.0.2:1/")
        assert end(process) == 0


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


def test_an_unknown_setting_in_the_file_is_named(command_line: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("max_dept = 3\n")
    result = command_line.run("serve", "--config", str(config))
    assert result.exit_code == 1
    assert "max_dept" in result.stderr
