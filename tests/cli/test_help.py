"""What answers before anything heavy is loaded."""

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import CommandLine
from tests.error_texts.texts import pattern_of

_HEAVY = ("openhands", "litellm", "openai", "fastapi", "sqlalchemy", "httpx", "pydantic_settings")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ask", "--help"], ["keys", "create", "--help"], ["serve", "--help"], ["--version"]]
)
def test_help_answers_without_importing_the_sdk_or_any_other_heavy_library(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "a2a_gateway", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "a2a_gateway" in imported
    assert imported.isdisjoint(_HEAVY)
    assert done.stdout


def test_every_command_is_in_the_help(command_line: CommandLine) -> None:
    shown = command_line.run("--help").stdout
    assert all(name in shown for name in ("serve", "ask", "runs", "keys", "profiles", "doctor", "demo"))


@pytest.mark.parametrize("arguments", [[], ["keys"], ["keys", "create"], ["runs", "show"], ["serve"], ["ask"]])
def test_h_is_help(command_line: CommandLine, arguments: list[str]) -> None:
    shown = command_line.run(*arguments, "-h")
    assert (shown.exit_code, shown.stdout) == (0, command_line.run(*arguments, "--help").stdout)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["rns"], "runs"), (["keys", "creat"], "create"), (["ask", "a", "b", "--buget-usd", "1"], "--budget-usd")],
)
def test_a_misspelled_command_or_option_is_answered_with_the_one_meant(
    command_line: CommandLine, arguments: list[str], meant: str
) -> None:
    result = command_line.run(*arguments)
    assert result.exit_code == 2
    assert meant in result.stderr


@pytest.mark.parametrize(
    "arguments", [["keys", "revoke", "missing"], ["peer", "remove", "missing"], ["runs", "list"], ["spend", "--by", "hour"]]
)
def test_a_failure_with_json_is_a_json_object(command_line: CommandLine, arguments: list[str]) -> None:
    plain, result = command_line.run(*arguments), command_line.run(*arguments, "--json")
    assert result.exit_code == plain.exit_code != 0
    assert set(json.loads(result.stdout)["error"]) == {"code", "message", "remedy", "param"}
    assert plain.stdout == ""


def test_an_unknown_command_is_wrong_usage(command_line: CommandLine) -> None:
    assert command_line.run("fly").exit_code == 2


def test_ctrl_c_while_the_commands_are_imported_is_no_fault_to_trace() -> None:
    program = """
import os, signal, sys
from a2a_gateway.__main__ import main

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_where_a_user_has_no_home_a_command_says_what_to_do(command_line: CommandLine) -> None:
    done = command_line.run("keys", "list", HOME="~")  # what Python finds where the user is a mere number
    assert done.exit_code == 1
    assert re.search(pattern_of("exit 1: a user without a home"), done.stderr)
