"""Migrations of the schema. They run by themselves when a store is opened; Alembic keeps the order.

To add one, change `schema`, copy the latest file in `versions` under the next number, and let the test that compares the two say
what is missing.
"""

import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from a2a_gateway.errors import ConfigurationError

_alembic: Final = threading.Lock()
"""Alembic's `op` and `context` belong to the whole process."""


def upgrade(connection: Connection) -> None:
    """Bring the database to the newest schema, within the connection's transaction.

    Raises:
        ConfigurationError: a newer release has written it.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    try:
        with _alembic:
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"The database does not fit this release: {error}. A newer one has probably written it."
        ) from None
