"""The database: one engine, the threads that may use it, and transactions.

It handles the differences between SQLite and PostgreSQL in connecting, locking and failing. The ledger, the keys and the
conversations pass it functions of a connection. It knows no table.

Database drivers block, so transactions run in threads of their own. SQLite gets a single thread: its writers exclude one another
anyway, and one thread queues them in order. PostgreSQL gets several.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from a2a_gateway.errors import ConfigurationError, StoreError
from a2a_gateway.stores.gateway_lock import DatabaseTaken, GatewayLock
from a2a_gateway.stores.sqlite_file import SqliteFile

PATIENCE_S: Final = 5.0
"""How long a transaction waits for a lock. With SQLite this includes its wait for the thread."""
POSTGRESQL_THREADS: Final = 8
_POSTGRESQL_OPTIONS: Final = (
    f"-c lock_timeout={PATIENCE_S:g}s"
    # If a gateway's machine fails, the server drops its session, and with it its locks, after seconds instead of hours.
    " -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=2"
)
_UNREACHABLE: Final = (
    "Connection refused",
    "Name or service not known",
    "authentication failed",
    "does not exist",
    "timeout expired",
)
"""Messages of a PostgreSQL client that cannot connect. These errors have no code."""
_FORMS: Final = (
    "Write postgresql://user:password@host/name, sqlite:///file.db for a file of this directory, or sqlite:////path/file.db."
)
_MIGRATION_LOCK: Final = 0x61326167  # "a2ag": any number that no other program locks in this database


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


class Database:
    """An open database. Use as `async with`. Entering creates a missing SQLite file, readable by its owner only.

    Raises:
        ConfigurationError: the URL cannot be parsed, or names a database or driver that is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        is_sqlite = self._url.get_backend_name() == "sqlite"
        threads = 1 if is_sqlite else POSTGRESQL_THREADS
        self._engine = _create_engine(self._url, threads)
        if is_sqlite:
            _prepare_sqlite(self._engine)
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="store")
        self._file = SqliteFile(Path(self._url.database)) if is_sqlite and self._url.database else None
        self._lock: GatewayLock | None = None
        # In errors until the database has been opened: later ones are sent to clients, who need not know where it is.
        self._place = "" if is_sqlite else f" {self._url.database!r} at {_server_of(self._url)}"

    async def __aenter__(self) -> Self:
        try:
            if self._file is not None:
                await self._in_thread(self._file.make)
        except BaseException:
            self._threads.shutdown()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            await self._in_thread(self._lock.release)
        await self._in_thread(self._engine.dispose)
        if self._file is not None:
            self._file.release()
        self._threads.shutdown()

    async def keep_gateways_out(self) -> None:
        """Lock the database against other gateways until it is closed.

        Raises:
            ConfigurationError: another gateway uses it.
            StoreError: the database does not answer.
        """
        if self._url.get_backend_name() == "postgresql":
            self._lock = GatewayLock(self._url, _connect_args(self._url))
        await self._in_thread(self._lock_out)

    def _lock_out(self) -> None:
        try:
            if self._file is not None:
                self._file.keep_gateways_out()
            if self._lock is not None:
                self._lock.acquire(self._engine)
        except DatabaseTaken as taken:
            raise ConfigurationError(
                f"{taken} Stop it, or give each gateway a database of its own.", param="database_url"
            ) from None
        except SQLAlchemyError as error:
            raise _failure(error, self._place) from error

    async def transaction[T](self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction: committed when it returns, rolled back when it raises.

        A caller that is cancelled first waits for the end of its transaction, about a millisecond. So what it does next comes
        after the transaction.

        Raises:
            StoreError: the database failed. Other exceptions of `work` pass through.
        """
        give_up_at = time.monotonic() + PATIENCE_S
        return await self._in_thread(lambda: self._transact(work, give_up_at))

    async def migrate(self, upgrade: Callable[[Connection], None]) -> None:
        """Run a schema change in one transaction, while no other process makes one."""

        def work(connection: Connection) -> None:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            upgrade(connection)

        await self.transaction(work)
        self._place = ""

    def _transact[T](self, work: Callable[[Connection], T], give_up_at: float) -> T:
        if self._file is not None and self._file.was_replaced():
            self._engine.dispose()
        try:
            with self._engine.connect() as connection:
                if connection.dialect.name == "sqlite":
                    # Transactions that queued for the thread while another one waited have used up that time, too.
                    # Otherwise each of them would wait for the full time, one after the other.
                    patience_ms = max(0, round((give_up_at - time.monotonic()) * 1000))
                    connection.connection.cursor().execute(f"PRAGMA busy_timeout={patience_ms}").close()
                with connection.begin():
                    return work(connection)
        except DatabaseTaken as taken:
            raise StoreError(f"{taken} It took the database over while the server was down. Nothing was changed.") from None
        except SQLAlchemyError as error:
            raise _failure(error, self._place) from error

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        interrupted: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                interrupted = error
        if interrupted is not None:
            future.exception()  # otherwise asyncio would log an exception that was never retrieved
            raise interrupted
        return future.result()


def parse_url(url: str) -> URL:
    """Parse the URL of a database. Any name of PostgreSQL and any driver are accepted, because only one driver is used.

    Raises:
        ConfigurationError: it is none, or one of another database. The text may hold a password, so it is not repeated.
    """
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):  # ValueError: the port is not a number
        raise ConfigurationError(f"database_url is not a URL. {_FORMS}", param="database_url") from None
    match parsed.get_backend_name():
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case "sqlite" if parsed.host is None and parsed.database not in (None, "", ":memory:"):
            return parsed.set(drivername="sqlite")
        case "sqlite":
            raise ConfigurationError(f"database_url names no file. {_FORMS}", param="database_url")
        case other:
            raise ConfigurationError(
                f"database_url names {other}; sqlite and postgresql are supported. {_FORMS}", param="database_url"
            )


def _create_engine(url: URL, threads: int) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        # The parameters are users' data, so they must not be in error messages.
        return create_engine(
            url,
            hide_parameters=True,
            pool_size=threads,
            max_overflow=0,
            pool_pre_ping=not is_sqlite,  # reconnect silently if the server was restarted in between
            connect_args=_connect_args(url),
        )
    except ImportError:
        raise ConfigurationError(
            "The driver for PostgreSQL is not installed. Install it: pip install 'a2a-gateway[postgresql]'", param="database_url"
        ) from None


def _connect_args(url: URL) -> dict[str, object]:
    """Return the driver's timeouts and encoding. PostgreSQL's own parameters in the URL take precedence."""
    patience_s = round(PATIENCE_S)
    if url.get_backend_name() == "sqlite":
        return {"timeout": patience_s}
    defaults: dict[str, object] = {
        "connect_timeout": patience_s,
        "tcp_user_timeout": patience_s * 1000,
        "options": _POSTGRESQL_OPTIONS,
        "client_encoding": "utf8",  # a cluster made under LANG=C has SQL_ASCII, and texts would arrive as bytes
    }
    return {name: value for name, value in defaults.items() if name not in url.query}


def _prepare_sqlite(engine: Engine) -> None:
    """Give SQLite the transactions that other databases have, and as fast as a file allows."""

    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # otherwise the driver begins transactions by itself, and only at the first write
        connection.execute("PRAGMA journal_mode=WAL")
        # With WAL and NORMAL a power cut can lose the last transactions, never the file. A crash of the gateway loses nothing.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    def begin(connection: Connection) -> None:
        # Otherwise a transaction that reads and then writes could fail at its first write, after it had decided by what it read.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


def _server_of(url: URL) -> str:
    """Return where a PostgreSQL server is: host and port, or the directory of its socket; no user, no password."""
    host = url.host or url.query.get("host") or "the local socket"
    return f"{host if isinstance(host, str) else ', '.join(host)}:{url.port or url.query.get('port') or 5432}"


def _failure(error: SQLAlchemyError, place: str) -> StoreError:
    return StoreError(f"The database{place} of this gateway failed ({_reason(error)}). Nothing was changed.")


def _reason(error: SQLAlchemyError) -> str:
    """Name a failure without its message, which may quote statements, values or paths."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return code or next((words for words in _UNREACHABLE if words in str(cause)), type(cause or error).__name__)
