"""How `a2a-gateway serve` writes its log."""

import json
import os
import pty
import re
import subprocess
import sys

LOGS_TWICE = """
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.server.logs import configure_logs
configure_logs("info")
get_log("a2a_gateway").info("one")
get_log("a2a_gateway").info("two")
print("went on")
"""


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        broken = subprocess.run([sys.executable, "-c", LOGS_TWICE], stdout=subprocess.PIPE, stderr=writer, check=False)
    finally:
        os.close(writer)
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, LOGS_TWICE], stdout=subprocess.PIPE, check=False
    )
    assert [broken.stdout, closed.stdout] == [b"went on\n", b"went on\n"]


LOGS_MUCH = """
import sys
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.server.logs import configure_logs
configure_logs("info")
for number in range(20_000):
    get_log("a2a_gateway").info("event", number=number)
print("went on", flush=True)
sys.stdin.read()
"""


def test_a_reader_that_is_slow_stops_nothing_and_is_told_what_it_missed() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", LOGS_MUCH], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.readline() == "went on\n"
        seen = 0
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "log_lines_dropped":
                break
            seen += 1
        process.stdin.close()
    assert seen + event["count"] == 20_000


EVIL = "\x1b]52;c;ZXZpbA==\x07\x9b2J"
LOG_OF_A_PEER = f"""
import logging
from a2a_gateway.runs.event_log import get_log, log_fault
from a2a_gateway.server.logs import configure_logs
configure_logs("info")
log, evil = get_log("a2a_gateway"), {EVIL!r}
log.warning("peer_down", reason=evil)
logging.getLogger("uvicorn").warning("reason: %s", evil)
try:
    raise ValueError(evil)
except ValueError:
    log_fault(log, "failed")
"""


def test_a_log_on_a_terminal_shows_control_characters_and_obeys_none() -> None:
    controller, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", LOG_OF_A_PEER], stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(controller, 65_536).decode()
    os.close(controller)
    plain = re.sub(r"\x1b\[[0-9;]*m|\r", "", shown)
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain) is None
    unquoted = plain.replace("\\\\", "\\")
    assert unquoted.count("\\x1b]52;c;ZXZpbA==\\x07\\x9b2J") == 3


LOGS_OF_LIBRARIES = """
import logging, warnings
from a2a_gateway.server.logs import configure_logs
configure_logs("debug")
for name in ("LiteLLM", "openhands.sdk.agent", "openai", "uvicorn.error", "asyncio", "sqlalchemy.pool"):
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.debug("secret")
    try:
        raise ValueError("se" + "cret")
    except ValueError:
        logger.exception("It broke\\n%s", "secret")
warnings.warn("a value: se" + "cret")
logging.getLogger("LiteLLM").warning("%d", "se" + "cret")
"""


def test_lines_of_libraries_have_the_same_form_and_no_text_of_users() -> None:
    ran = subprocess.run([sys.executable, "-c", LOGS_OF_LIBRARIES], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(line["logger"], line["level"], line.get("message")) for line in lines] == [
        ("LiteLLM", "error", None),
        ("openhands.sdk.agent", "error", None),
        ("openai", "error", None),
        ("uvicorn.error", "error", "It broke"),
        ("asyncio", "error", "It broke"),
        ("sqlalchemy.pool", "error", "It broke"),
        ("py.warnings", "warning", "UserWarning"),
        ("LiteLLM", "warning", None),
    ]
    assert {line["event"] for line in lines} == {"library_message"}
    assert all(line["exception"].endswith("ValueError") for line in lines[:-2])
    assert "secret" not in ran.stderr
