"""One gateway per data directory: a second one would take the first one's runs for lost and sweep their workspaces."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from a2a_gateway.errors import ConfigurationError

_NAME = "gateway.lock"


@contextmanager
def sole_user(data_dir: Path) -> Iterator[None]:
    """Hold a data directory, made if missing; the operating system lets go of it when the process ends, however it ends.

    Raises:
        ConfigurationError: another gateway holds it.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(data_dir / _NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another gateway uses the data directory {data_dir}. Stop it, or choose another directory with --data-dir."
            ) from None
        yield
    finally:
        os.close(lock)
