"""Faults of the gateway are logged without local variables, also where the application has not configured structlog."""

import subprocess
import sys

PROGRAM = """
import structlog
from a2a_gateway.runs.fault_log import log_fault

def fail():
    key = "a2a_secret"
    raise RuntimeError("a bug")

try:
    fail()
except RuntimeError:
    log_fault(structlog.get_logger("here"), "run_failed_internally", run_id="root")
"""


def test_a_fault_is_logged_with_its_traceback_and_without_local_variables() -> None:
    command = [sys.executable, "-c", PROGRAM]
    logged = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "run_failed_internally" in logged
    assert "RuntimeError: a bug" in logged
    assert "a2a_secret" not in logged
