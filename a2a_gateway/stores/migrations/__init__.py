"""Migrations of the schema. They run when a store is opened; Alembic keeps their order.

To add a migration, change `schema` and copy the latest file in `versions` under the next number. A test compares the two and
reports what is missing.
"""

import threading
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from a2a_gateway.errors import ConfigurationError

_DIRECTORY: Final = Path(__file__).parent
_alembic: Final = threading.Lock()
"""Alembic's `op` and `context` are global, so only one thread may run migrations."""


def newest_revision() -> str:
    """Return the number of the latest migration, which is its revision in Alembic."""
    return max(path.name[1:5] for path in (_DIRECTORY / "versions").glob("v[0-9]*.py"))


def upgrade(connection: Connection) -> None:
    """Migrate the database to the newest schema, within the connection's transaction.

    Raises:
        ConfigurationError: a newer release has written it.
    """
    # Usually there is nothing to do. Importing Alembic takes as long as the rest of the store, and 7 MB of memory.
    if _revision(connection) != newest_revision():
        _migrate(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_DIRECTORY).replace("%", "%%"))
    try:
        with _alembic:
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"The database does not fit this release: {error}. A newer one has probably written it."
        ) from None
