"""On Windows the gateway fails with one sentence."""

import subprocess
import sys

import pytest

from a2a_gateway.__main__ import main


def test_the_command_on_windows_prints_one_sentence_that_names_wsl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, str)  # it is printed to standard error, and the exit code is 1
    assert "WSL 2" in ended.value.code
    assert ended.value.code.count(". ") == 0


def test_importing_the_server_on_windows_fails_with_the_same_sentence() -> None:
    program = "import sys; sys.platform = 'win32'; from a2a_gateway import create_app"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert "WSL 2" in last_line
