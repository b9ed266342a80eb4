"""Logs: one line per event on standard error, through structlog. Libraries' own loggers write there too, from warnings on."""

import logging
import sys
from contextlib import suppress
from io import StringIO
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from delegate_tool.protocol.text import legible


class _LossyFile:
    """A file for logs that ignores errors: if the disk is full, or a pipe has no reader, lines are lost."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


class _LegibleFormatter(logging.Formatter):
    """Formats what libraries log, which may quote a peer or an LLM."""

    def format(self, record: logging.LogRecord) -> str:
        return legible(super().format(record))


def _make_legible(_: object, __: str, event: EventDict) -> EventDict:
    return {name: legible(value) if isinstance(value, str) else value for name, value in event.items()}


def _write_traceback(file: TextIO, error: ExcInfo) -> None:
    # Without local variables, which structlog shows on a terminal by default: they contain keys and prompts.
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    file.write(legible(text.getvalue()))


def configure_logs(level: str) -> None:
    """Set up logging for the process: readable on a terminal, JSON elsewhere. Of libraries, warnings and errors appear."""
    number = logging.getLevelNamesMapping()[level.upper()]
    for_people: list[Processor] = [_make_legible, structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
    for_programs: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(for_people if sys.stderr.isatty() else for_programs),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_LossyFile(sys.stderr)),  # type: ignore[arg-type]  # it only prints
    )
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(_LegibleFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[of_libraries])
