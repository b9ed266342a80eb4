"""A PostgreSQL server of our own: Debian's package, on a socket in a temporary directory, without durability."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

_DEBIAN = Path("/usr/lib/postgresql")


def find_postgresql() -> Path | None:
    """Find the directory of the server's programs; Debian keeps them out of PATH, by version."""
    newest = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = newest[-1] if newest else shutil.which("initdb")
    return Path(found).parent if found else None


@dataclass(frozen=True)
class PostgresqlServer:
    """A server; `directory` has its socket."""

    programs: Path
    directory: Path

    @property
    def _user(self) -> str | None:
        # The server refuses to run as root; Debian's package has made a user for it.
        return "postgres" if os.geteuid() == 0 else None

    def make(self) -> None:
        if self._user:
            shutil.chown(self.directory, self._user, pwd.getpwnam(self._user).pw_gid)
        self._run("initdb", "-A", "trust", "-U", "gateway", "--no-sync")

    def start(self) -> None:
        options = f"-k {self.directory} -c listen_addresses= -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self.directory / "log"), "start")

    def stop(self) -> None:
        """Stop as a crash does, without notifying clients."""
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / program, "-D", str(self.directory / "data"), *arguments],
            check=True,
            cwd=self.directory,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            extra_groups=[] if self._user else None,
        )


@contextmanager
def running_postgresql(programs: Path) -> Iterator[PostgresqlServer]:
    """Run a server."""
    directory = Path(tempfile.mkdtemp(prefix="a2a-postgresql-"))
    server = PostgresqlServer(programs, directory)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def required_postgresql() -> Path:
    """Return the directory of the server's programs. Without them skip the test, or, in CI, fail it."""
    programs = find_postgresql()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed, and the store must be tested on it (Debian: apt-get install postgresql).")
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return programs


def make_postgresql_database(directory: str | Path, options: str = "") -> str:
    """Make an empty database and return its URL; `options` are those of `CREATE DATABASE`."""
    name = f"gateway_{uuid.uuid4().hex}"
    with psycopg.connect(host=str(directory), user="gateway", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {options}'.encode())
    return f"postgresql://gateway@/{name}?host={directory}"
