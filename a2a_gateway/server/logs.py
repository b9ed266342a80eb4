"""The log of `a2a-gateway serve`: one form for the gateway's own events and for what libraries log, on standard error.

A terminal gets readable lines, anything else one JSON object a line. Two rules protect what users send and agents write:

- Libraries log from warnings on, whatever `log_level` and the variables of libraries ask for.
- The text that a library logs is not trusted. Those of `_WITH_TEXT` show its first line; others quote prompts, answers and
  responses, so only the place in their code is shown. No exception of a library shows its message, only its type and frames.

A thread writes the lines. If the reader of a pipe is slow, no request waits for it: lines beyond `_MOST_WAITING` are dropped and
counted. Errors are ignored, so a full disk stops nothing.
"""

import logging
import os
import queue
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from a2a_gateway.runs.event_log import get_log
from delegate_tool.protocol.text import legible

log = get_log(__name__)

_OWN: Final = ("a2a_gateway", "delegate_tool")
_WITH_TEXT: Final = ("uvicorn", "sqlalchemy", "alembic", "asyncio", "py")
"""Libraries whose messages contain nothing of users, agents or LLMs in their first line; `py` is Python's warnings."""
_MOST_WAITING: Final = 10_000
_FLUSH_WITHIN_S: Final = 1.0


def configure_logs(level: str) -> None:
    """Set up logging for a process that belongs to the gateway."""
    number = logging.getLevelNamesMapping()[level.upper()]
    file = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115  # None if the process was started without a standard error
    handler = _BackgroundHandler(file)
    handler.setFormatter(_formatter(is_terminal=file.isatty()))
    handler.addFilter(_is_wanted)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    for name in _OWN:
        logging.getLogger(name).setLevel(number)
    warnings.showwarning = _log_warning


class _BackgroundHandler(logging.Handler):
    """Writes records in a thread of its own."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_MOST_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued, unless the reader has stopped reading. `logging` calls this at exit."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_FLUSH_WITHIN_S)
        super().close()

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._write(record)
            if self._dropped and self._waiting.empty():
                dropped, self._dropped = self._dropped, 0
                log.warning("log_lines_dropped", count=dropped)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # a record of a library may be unprintable, and the thread has to go on
            record.msg, record.args, record.exc_info = "unprintable", (), None
            line = self.format(record)
        with suppress(OSError, ValueError):  # ValueError: the file is closed
            self._file.write(line + "\n")
            self._file.flush()


def _is_wanted(record: logging.LogRecord) -> bool:
    # Loggers of libraries may have levels of their own, which their environment variables set.
    return record.levelno >= logging.WARNING or _package(record) in _OWN


def _package(record: logging.LogRecord) -> str:
    return record.name.partition(".")[0]


def _formatter(*, is_terminal: bool) -> logging.Formatter:
    for_people: list[Processor] = [_make_legible, structlog.dev.ConsoleRenderer(colors=is_terminal)]
    for_programs: list[Processor] = [structlog.processors.JSONRenderer(default=str)]
    return structlog.stdlib.ProcessorFormatter(
        processors=[_describe, *(for_people if is_terminal else for_programs)], foreign_pre_chain=[_describe_foreign]
    )


def _describe(_: object, __: str, event: EventDict) -> EventDict:
    """Put what every line has in front of the fields of an event."""
    record: logging.LogRecord = event.pop("_record")
    del event["_from_structlog"]
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common = {"timestamp": at, "level": record.levelname.lower(), "event": event.pop("event"), "logger": record.name}
    return {**common, **event}


def _describe_foreign(_: object, __: str, event: EventDict) -> EventDict:
    """Describe what was logged without an event: by a library, or by `delegate_tool`."""
    record: logging.LogRecord = event["_record"]
    text = event["event"] if _package(record) in (*_OWN, *_WITH_TEXT) else ""
    described = {"event": "library_message", "where": f"{PurePath(record.pathname).name}:{record.lineno}"}
    if text:
        described["message"] = text.partition("\n")[0]
    kind, error, frames = event.get("exc_info") or (None, None, None)
    if kind is not None and error is not None:
        described["exception"] = "".join([*traceback.format_tb(frames), kind.__qualname__])
    return {**described, "_record": record, "_from_structlog": False}


def _make_legible(_: object, __: str, event: EventDict) -> EventDict:
    return {name: legible(value) if isinstance(value, str) else value for name, value in event.items()}


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a warning of Python by its category: its text may quote values, as pydantic's do."""
    log = logging.getLogger("py.warnings")
    log.handle(log.makeRecord(log.name, logging.WARNING, filename, lineno, category.__qualname__, (), None))
