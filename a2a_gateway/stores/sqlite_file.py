"""The file of an SQLite database: create it private, lock it against other gateways, and detect its replacement.

The file may be moved or removed while it is open. SQLite would go on with the file that has no name any more, and everything
written to it would be lost when the process ends.
"""

import fcntl
import os
from pathlib import Path

from a2a_gateway.errors import ConfigurationError, StoreError
from a2a_gateway.stores.gateway_lock import DatabaseTaken


class SqliteFile:
    """A path, and which file was last found there. Only the thread that uses the database may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: tuple[int, int] | None = None
        self._lock_fd: int | None = None

    def make(self) -> None:
        """Create the file with private permissions before SQLite does. SQLite's `-wal` and `-shm` files copy its permissions.

        Raises:
            ConfigurationError: the file cannot be created or opened.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._path.chmod(0o600)
        except OSError as error:
            raise _cannot_be_opened(error) from None

    def keep_gateways_out(self) -> None:
        """Lock the file against other gateways, also with other data directories, until `release` or the end of the process.

        The lock is on a file beside it: opening and closing SQLite's own file would drop the locks that SQLite has on it.

        Raises:
            DatabaseTaken: another gateway has the lock.
            ConfigurationError: the lock file cannot be opened.
        """
        path = self._path.resolve()
        try:
            self._lock_fd = os.open(path.with_name(f"{path.name}-gateway"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseTaken("Another gateway uses this database.") from None
        except OSError as error:
            raise _cannot_be_opened(error) from None

    def release(self) -> None:
        """Release the lock."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def was_replaced(self) -> bool:
        """Return whether the file is another one than the last time, so that open connections to the old file are useless.

        Raises:
            StoreError: the file is missing. It may be put back; what is written before that would be lost.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            raise StoreError(
                f"The gateway's database file is gone ({error.strerror}). Nothing was changed. Put it back where it was."
            ) from None
        before, self._found = self._found, (status.st_dev, status.st_ino)
        return before not in (None, self._found)


def _cannot_be_opened(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The database file cannot be opened: {error.strerror}. Check data_dir and database_url.", param="database_url"
    )
