"""Secrets leave the process's environment, and what the kernel shows of it."""

import os
import subprocess
import sys

import pytest

linux = pytest.mark.linux("/proc is Linux's")


def run(program: str, **environ: str) -> str:
    """Run a program that has only these variables, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


SCRUB = "import os, sys; from pathlib import Path; from a2a_gateway.host.process_hardening import *\n"


def test_scrubbed_variables_are_gone_for_the_process_and_its_children() -> None:
    program = SCRUB + "scrub_environment(['LLM_API_KEY', 'UNSET']); os.system('env'); print(os.environ.get('LLM_API_KEY'))"
    shown = run(program, LLM_API_KEY="sesame", OTHER="stays")
    assert "sesame" not in shown
    assert "OTHER=stays" in shown
    assert shown.endswith("None\n")


@linux
def test_another_process_cannot_read_a_scrubbed_value_from_proc() -> None:
    look = "print(Path('/proc/self/environ').read_bytes());"
    program = SCRUB + look + "scrub_environment(['LLM_API_KEY', 'EMPTY', 'ÄÖ']);" + look
    before, after = run(program, LLM_API_KEY="open=sesame", EMPTY="", LLM_API_KEY_2="kept", ÄÖ="sesame2").splitlines()
    assert before.count("sesame") == 2
    assert "sesame" not in after
    assert "LLM_API_KEY_2=kept" in after


@linux
def test_a_process_that_forbids_inspection_is_not_dumpable() -> None:
    program = SCRUB + (
        "import ctypes; dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0);"
        "print(dumpable(), forbid_inspection(), dumpable())"
    )
    assert run(program).split() == ["1", "True", "0"]
