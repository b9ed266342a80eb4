"""The URL of the database: every usual name of PostgreSQL and of SQLite files, and what is wrong with another one."""

import sys
from pathlib import Path

import pytest

from a2a_gateway.errors import ConfigurationError, StoreError
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.stores import open_store
from a2a_gateway.stores.database import parse_url
from tests.error_texts.texts import pattern_of
from tests.support.postgresql import make_postgresql_database

pytestmark = pytest.mark.anyio

POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg")


@pytest.mark.parametrize("name", POSTGRESQL)
def test_every_name_of_postgresql_means_the_one_driver(name: str) -> None:
    assert parse_url(f" {name}://u:pw@h/d\n").render_as_string(hide_password=False) == "postgresql+psycopg://u:pw@h/d"


@pytest.mark.postgres
async def test_a_url_as_hosting_services_write_it_is_opened(postgresql: str) -> None:
    url = make_postgresql_database(postgresql)
    async with open_store(url.replace("postgresql", "postgres", 1), SystemClock()) as store:
        assert await store.keys.list_keys() == []


async def test_a_relative_path_is_one_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("sqlite:///mine.db", SystemClock()):
        assert (tmp_path / "mine.db").is_file()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://u:hunter2@h/d", "a database of an unknown kind"),
        ("sqlite://mine.db", "a database without a file"),
        ("sqlite://", "a database without a file"),
        ("sqlite:///:memory:", "a database without a file"),
        ("mine.db", "a database at what is no URL"),
        ("postgres://u:hunter2@h:port/d", "a database at what is no URL"),
    ],
)
def test_another_url_is_refused_with_the_forms_that_are_supported(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=pattern_of(f"configuration_error: {text}")) as refused:
        parse_url(url)
    assert refused.value.param == "database_url"


async def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a database without its driver")):
        async with open_store("postgres://h/d", SystemClock()):
            pass


async def test_a_server_that_cannot_be_reached_at_the_start_is_named_without_its_password() -> None:
    with pytest.raises(StoreError) as failed:
        async with open_store("postgres://u:hunter2@127.0.0.1:9/books", SystemClock()):
            pass
    assert "'books' at 127.0.0.1:9 of this gateway failed (Connection refused)" in failed.value.message
    assert "hunter2" not in failed.value.message
