"""The file of an SQLite database: made private, held against other gateways, and watched.

It may be moved or removed while it is open. SQLite would go on with a file that has no name any more, and everything written to
it would be gone with the process.
"""

import fcntl
import os
from pathlib import Path

from a2a_gateway.errors import ConfigurationError, StoreError
from a2a_gateway.stores.gateway_lock import DatabaseTaken


class SqliteFile:
    """One path, and which file was last found there. For the thread that uses the database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: tuple[int, int] | None = None
        self._hold: int | None = None

    def make(self) -> None:
        """Make the file before SQLite does, because SQLite's companions of it (`-wal`, `-shm`) take over its mode.

        Raises:
            ConfigurationError: it cannot be made, or not be opened.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._path.chmod(0o600)
        except OSError as error:
            raise _cannot_be_opened(error) from None

    def keep_gateways_out(self) -> None:
        """Hold the file against other gateways, which may have other data directories, until `release` or the process's end.

        By a file beside it: to open and close SQLite's own would let go of the locks that SQLite has on it.

        Raises:
            DatabaseTaken: another gateway has it.
            ConfigurationError: the file beside it cannot be opened.
        """
        path = self._path.resolve()
        try:
            self._hold = os.open(path.with_name(f"{path.name}-gateway"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseTaken("Another gateway uses this database.") from None
        except OSError as error:
            raise _cannot_be_opened(error) from None

    def release(self) -> None:
        """Let others have it."""
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def was_replaced(self) -> bool:
        """Whether another file is here than the last time: connections to that one are of no more use.

        Raises:
            StoreError: there is none. It may be put back: what is written from here on would be lost until then.
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
