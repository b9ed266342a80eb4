"""Logs: one line an event on standard error, through structlog; the standard library's loggers are quietened and joined in."""

import logging
import sys
from contextlib import suppress
from typing import TextIO

import structlog


class _Unfailing:
    """A file for logs: where the disk is full or the reader has gone, lines are lost, and nothing stops."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def configure_logs(level: str) -> None:
    """Set up logging for the process: readable on a terminal, JSON elsewhere. Messages of libraries appear from warnings on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    on_terminal = sys.stderr.isatty()
    # A traceback with local variables, structlog's default on a terminal, would show keys and prompts.
    for_people = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    render = for_people if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if on_terminal else [structlog.processors.format_exc_info]),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_Unfailing(sys.stderr)),  # type: ignore[arg-type]  # it only prints
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
