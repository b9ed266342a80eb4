"""Log events: what happened, as a name in snake_case, and its fields.

Events go to standard `logging` loggers named after their modules, below `a2a_gateway`. `a2a-gateway serve` renders them
(`server.logs`). An application that mounts a gateway configures these loggers like any others.
structlog's own configuration, which may be the application's, is neither used nor changed.
"""

import logging
from traceback import format_exc
from typing import Final, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

_FRAMES: Final = 4
"""Frames between a call of `EventLog` and `logging`, so that a record names the line that logged."""

type EventLog = structlog.stdlib.BoundLogger


class LogEvent(dict[str, object]):
    """An event with its fields. structlog's formatter reads it as a mapping; any other formatter gets a line of text."""

    def __str__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in self.items() if name not in ("event", "exception")]
        line = " ".join([str(self["event"]), *fields])
        return f"{line}\n{self['exception']}" if "exception" in self else line


def get_log(name: str) -> EventLog:
    """Return the log of a module."""
    log = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _pass_to_logging],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast(EventLog, log.bind())


def log_fault(log: EventLog, event: str, **fields: object) -> None:
    """Log the exception that is being handled: a fault of the gateway.

    Its traceback is passed as text. Formatters of the application might add local variables, which contain keys and prompts.
    """
    log.error(event, exception=format_exc(), **fields)


def _pass_to_logging(logger: WrappedLogger, name: str, event: EventDict) -> tuple[tuple[LogEvent], dict[str, object]]:
    # As `ProcessorFormatter.wrap_for_formatter` does, whose formatter recognises these two attributes.
    return (LogEvent(event),), {"stacklevel": _FRAMES, "extra": {"_logger": logger, "_name": name}}
