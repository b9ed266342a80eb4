"""Open the store of the local settings, for commands that work whether or not a gateway is running."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a2a_gateway.settings import Settings
    from a2a_gateway.stores import Store


@asynccontextmanager
async def own_store(settings: "Settings") -> "AsyncIterator[Store]":
    """Open the store; create it if it does not exist.

    Raises:
        GatewayError: the store can be neither opened nor created.
    """
    from a2a_gateway.host.clock import SystemClock
    from a2a_gateway.stores import open_store, store_url

    settings.make_data_dir()
    async with open_store(store_url(settings), SystemClock()) as store:
        yield store
