"""The key that the first start makes, so that the gateway can be used at once."""

import asyncio
from pathlib import Path
from typing import Final

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.private_file import write_private_file
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.settings import Settings
from a2a_gateway.stores import Store
from a2a_gateway.stores.keys import is_secret

log = get_log(__name__)

_NAME: Final = "default"
_FILE: Final = "first-key"


async def has_key(store: Store) -> bool:
    """Return whether there is a key that a client can present."""
    return any(key.revoked_at is None and is_secret(key) for key in await store.keys.list_keys())


async def make_first_key(store: Store, settings: Settings, *, may_show_key: bool) -> tuple[str | None, Path | None]:
    """Make a key if there is none. Return it if it may be shown, else the file that it was written to.

    A file of an earlier start in the data directory is replaced: its key was revoked, or its database is gone. A file that the
    settings name is never replaced, because it may belong to another program.

    Raises:
        ConfigurationError: the file cannot be written; the key is revoked again.
    """
    if await has_key(store):
        return None, None
    record, key = await store.keys.create_key(_NAME, workspaces=_own_directories())
    named = settings.bootstrap_key_file
    if named is None and may_show_key:
        return key, None
    file = (named or settings.data_dir / _FILE).absolute()
    try:
        await asyncio.to_thread(write_private_file, file, f"{key}\n".encode(), replace=named is None)
    except OSError as error:
        await store.keys.revoke(record.id)
        raise ConfigurationError(
            f"The first key cannot be written to {file}: {error.strerror}. "
            "Remove what is there, or set bootstrap_key_file (A2A_BOOTSTRAP_KEY_FILE) to another file.",
            param="bootstrap_key_file",
        ) from None
    log.info("first_key_written", path=str(file))
    return None, file


def _own_directories() -> list[str]:
    """Return the directories that the first key may name: its owner started the gateway, and may use agents in any of them."""
    try:
        home = Path.home()
    except RuntimeError:  # containers may run as a user without a home
        return []
    return [] if home == Path(home.root) else [str(home)]  # a user whose home is `/` would name any directory
