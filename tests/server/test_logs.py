"""The gateway's log."""

import os
import subprocess
import sys

LOGS_TWICE = """
import structlog
from a2a_gateway.server.logs import configure_logs
configure_logs("info")
structlog.get_logger().info("one")
structlog.get_logger().info("two")
print("went on")
"""


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run([sys.executable, "-c", LOGS_TWICE], stdout=subprocess.PIPE, stderr=writer, check=False)
    finally:
        os.close(writer)
    assert ran.stdout == b"went on\n"
