"""One gateway per data directory: a second one would take the first one's runs for lost and sweep their workspaces."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.settings import Settings

_NAME = "gateway.lock"


@contextmanager
def sole_user(settings: Settings) -> Iterator[None]:
    """Hold a data directory, made if missing; the operating system lets go of it when the process ends, however it ends.

    Raises:
        ConfigurationError: another gateway holds it, or it cannot be written to.
    """
    settings.make_data_dir()
    data_dir = settings.data_dir
    try:
        lock = os.open(data_dir / _NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {data_dir} cannot be written to: {error.strerror}. Choose another with --data-dir."
        ) from None
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
