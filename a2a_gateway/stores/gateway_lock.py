"""Lock a PostgreSQL database for one gateway. A second gateway would end the first one's runs as lost.

The lock belongs to a session, so it is gone when the server restarts. Whenever the engine makes a new connection, the lock is
checked and taken again if necessary.
"""

import threading
from collections.abc import Mapping
from typing import Final

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_LOCK: Final = 0x61326168  # any number that no other program locks in this database
_LOCK_NOT_AVAILABLE: Final = "55P03"


class DatabaseTaken(Exception):
    """Another gateway has the database."""


class GatewayLock:
    """An exclusive lock on a database, in a session that does nothing else. Its methods block; any thread may call them."""

    def __init__(self, url: URL, connect_args: Mapping[str, object]) -> None:
        self._engine = create_engine(url, hide_parameters=True, poolclass=NullPool, connect_args=dict(connect_args))
        self._session: Connection | None = None
        self._one_at_a_time = threading.Lock()

    def acquire(self, engine: Engine) -> None:
        """Take the lock, and take it again after the server that `engine` connects to was restarted.

        Raises:
            DatabaseTaken: another gateway has it.
            SQLAlchemyError: the database does not answer.
        """
        self._take()
        event.listen(engine, "connect", self._renew)

    def release(self) -> None:
        """Release the lock."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _renew(self, *_: object) -> None:
        with self._one_at_a_time:
            if not self._is_held():
                self._take()

    def _is_held(self) -> bool:
        if self._session is None:
            return False
        try:
            self._session.exec_driver_sql("SELECT 1")
            self._session.commit()
        except SQLAlchemyError:
            self._session.invalidate()
            self.release()
            return False
        return True

    def _take(self) -> None:
        session = self._engine.connect()
        try:
            session.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            session.commit()
        except SQLAlchemyError as error:
            session.close()
            if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise DatabaseTaken("Another gateway uses this database.") from None
            raise
        self._session = session
