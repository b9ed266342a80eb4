"""The log of an application that mounts a gateway: its events are records of `logging`, which the application configures."""

import logging
import subprocess
import sys

import pytest

from a2a_gateway.runs.event_log import get_log

PROGRAM = """
from a2a_gateway.runs.event_log import get_log, log_fault

log = get_log("a2a_gateway.here")

def fail():
    key = "a2a_secret"
    raise RuntimeError("a bug")

log.info("run_ended", run_id="root")
try:
    fail()
except RuntimeError:
    log_fault(log, "run_failed_internally", run_id="root")
"""


def test_an_application_without_logging_sees_faults_alone_and_nothing_on_its_output() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert ran.stderr.startswith("run_failed_internally run_id='root'\nTraceback")
    assert "RuntimeError: a bug" in ran.stderr
    assert "run_ended" not in ran.stderr
    assert "a2a_secret" not in ran.stderr


def test_an_event_is_a_record_with_its_fields_its_text_and_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "a2a_gateway.here")
    get_log("a2a_gateway.here").info("run_ended", run_id="root", seconds=1.5)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.filename) == ("a2a_gateway.here", "INFO", "test_event_log.py")
    assert record.msg == {"event": "run_ended", "run_id": "root", "seconds": 1.5}
    assert logging.Formatter("%(name)s %(message)s").format(record) == "a2a_gateway.here run_ended run_id='root' seconds=1.5"
