"""The key that the first start makes: where it goes if no person reads the standard output."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.clock import SystemClock
from a2a_gateway.server.first_key import has_key, make_first_key
from a2a_gateway.settings import Settings
from a2a_gateway.stores import Store, open_store, store_url

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with open_store(store_url(settings), SystemClock()) as store:
        yield store


async def test_a_key_that_may_not_be_shown_is_in_a_private_file_once(store: Store, settings: Settings) -> None:
    shown, file = await make_first_key(store, settings, may_show_key=False)
    assert shown is None
    assert file == settings.data_dir / "first-key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await store.keys.authenticate(file.read_text().strip())).name == "default"
    assert await make_first_key(store, settings, may_show_key=False) == (None, None)
    assert await make_first_key(store, settings, may_show_key=True) == (None, None)


async def test_a_file_of_an_earlier_start_is_replaced_and_a_link_is_not_followed(store: Store, settings: Settings) -> None:
    target = settings.data_dir / "precious"
    target.write_text("precious")
    (settings.data_dir / "first-key").symlink_to(target)
    _, file = await make_first_key(store, settings, may_show_key=False)
    assert file is not None
    assert not file.is_symlink()
    assert target.read_text() == "precious"
    assert (await store.keys.authenticate(file.read_text().strip())).name == "default"


async def test_the_first_key_of_a_user_without_a_home_names_no_directory(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # a user that the system does not know
    await make_first_key(store, settings, may_show_key=True)
    assert [key.workspaces for key in await store.keys.list_keys()] == [()]


async def test_a_file_that_is_named_gets_the_key_also_of_a_start_on_a_terminal(store: Store, settings: Settings) -> None:
    named = settings.model_copy(update={"bootstrap_key_file": settings.data_dir / "key"})
    assert await make_first_key(store, named, may_show_key=True) == (None, settings.data_dir / "key")


@pytest.mark.parametrize("there", ["file", "link", "directory", "nowhere"])
async def test_a_named_file_is_never_overwritten_and_no_key_stays(store: Store, settings: Settings, there: str) -> None:
    path = settings.data_dir / "taken"
    match there:
        case "file":
            path.write_text("precious")
        case "link":
            path.symlink_to(settings.data_dir / "elsewhere")
        case "directory":
            path.mkdir()
        case _:
            path = settings.data_dir / "no-such-directory" / "key"
    before = sorted(os.listdir(settings.data_dir))
    with pytest.raises(ConfigurationError) as refused:
        await make_first_key(store, settings.model_copy(update={"bootstrap_key_file": path}), may_show_key=False)
    assert refused.value.param == "bootstrap_key_file"
    assert str(path) in refused.value.message
    assert "a2a_" not in refused.value.message
    assert sorted(os.listdir(settings.data_dir)) == before
    assert not await has_key(store)
    assert there != "file" or path.read_text() == "precious"
