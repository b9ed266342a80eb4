"""Allow only one gateway per data directory. A second one would treat the first one's runs as lost, and remove their workspaces.

The lock is a plain `flock`. `filelock` would save three lines, and needs three options to be as safe: no lock by the existence of
a file, which outlives a crash; no lock per thread; private mode.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.settings import Settings

_NAME = "gateway.lock"


@contextmanager
def lock_data_dir(settings: Settings) -> Iterator[None]:
    """Lock a data directory, which is created if missing. The operating system releases the lock when the process ends.

    The URL of the gateway is in the locked file, because its port may have been chosen at its start.

    Raises:
        ConfigurationError: another gateway has locked it, or it is not writable.
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
        os.ftruncate(lock, 0)
        os.write(lock, settings.own_url.encode())
        try:
            yield
        finally:
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def find_running_url(data_dir: Path) -> str | None:
    """Return the URL of the gateway that uses a data directory, or that crashed in it; None if there is none."""
    try:
        return (data_dir / _NAME).read_text() or None
    except (OSError, UnicodeDecodeError):
        return None
