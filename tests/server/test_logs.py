"""The gateway's log."""

import os
import pty
import re
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


EVIL = "\x1b]52;c;ZXZpbA==\x07\x9b2J"
LOG_OF_A_PEER = f"""
import logging, structlog
from a2a_gateway.server.logs import configure_logs
configure_logs("info")
structlog.get_logger().warning("peer_down", reason={EVIL!r})
logging.getLogger("library").warning("said %s", {EVIL!r})
try:
    raise ValueError({EVIL!r})
except ValueError:
    structlog.get_logger().exception("failed")
"""


def test_a_log_on_a_terminal_shows_control_characters_and_obeys_none() -> None:
    controller, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", LOG_OF_A_PEER], stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(controller, 65_536).decode()
    os.close(controller)
    plain = re.sub(r"\x1b\[[0-9;]*m|\r", "", shown)
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain) is None
    assert plain.count("\\x1b]52;c;ZXZpbA==\\x07\\x9b2J") == 3
