"""Databases for the store's tests: SQLite in a file, and PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_gateway.stores import sqlite_url
from tests.support.postgresql import find_postgresql, make_postgresql_database, running_postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server; yields the directory of its socket."""
    programs = find_postgresql()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed, and the store must be tested on it (Debian: apt-get install postgresql).")
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with running_postgresql(programs) as directory:
        yield directory


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "gateway.db")
    return make_postgresql_database(request.getfixturevalue("postgresql"))
