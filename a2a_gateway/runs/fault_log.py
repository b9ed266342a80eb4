"""Log faults of the gateway itself, with their tracebacks and without local variables.

Local variables contain keys and prompts. structlog prints them by default, and in an application that mounts a gateway its
configuration is the application's. So the traceback is passed as text, under the name that structlog's renderers print as one.
"""

from traceback import format_exc
from typing import Protocol


class _Logger(Protocol):
    def error(self, event: str, **values: object) -> object: ...


def log_fault(log: _Logger, event: str, **values: object) -> None:
    """Log the exception that is being handled."""
    log.error(event, exception=format_exc(), **values)
