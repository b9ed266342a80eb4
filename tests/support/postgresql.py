"""A PostgreSQL server of our own: Debian's package, on a socket in a temporary directory, without durability."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_DEBIAN = Path("/usr/lib/postgresql")


def find_postgresql() -> Path | None:
    """The directory of the server's programs; Debian keeps them out of PATH, by version."""
    newest = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = newest[-1] if newest else shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def running_postgresql(programs: Path) -> Iterator[str]:
    """Run a server; yields the directory of its socket."""
    directory = Path(tempfile.mkdtemp(prefix="a2a-postgresql-"))
    # The server refuses to run as root; Debian's package has made a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            check=True,
            cwd=directory,
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            extra_groups=[] if user else None,
        )

    data = str(directory / "data")
    try:
        run("initdb", "-D", data, "-A", "trust", "-U", "gateway", "--no-sync")
        options = f"-k {directory} -c listen_addresses= -c fsync=off -c max_connections=200"
        run("pg_ctl", "-D", data, "-w", "-o", options, "-l", str(directory / "log"), "start")
        try:
            yield str(directory)
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_postgresql_database(directory: str) -> str:
    """Make an empty database and return its URL."""
    name = f"gateway_{uuid.uuid4().hex}"
    with psycopg.connect(host=directory, user="gateway", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"postgresql://gateway@/{name}?host={directory}"
