"""What a gateway does beside serving requests, each as a loop that survives a database or a disk that is away for a while."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Final

from a2a_gateway.errors import GatewayError, StoreError
from a2a_gateway.runs.event_log import get_log
from a2a_gateway.runs.leases import Leases
from a2a_gateway.runs.ports import Clock, Profiles
from a2a_gateway.runs.revocation import Revocation
from a2a_gateway.stores import Store

log = get_log(__name__)

_SWEEP_EVERY_S: Final = 30.0
_REMOVE_RUNS_EVERY_S: Final = 600.0
_REVOKED_WITHIN_S: Final = 0.5
_REREAD_EVERY_S: Final = 1.0


@asynccontextmanager
async def background(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Run a task while the context lasts, and cancel it at the end."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def sweep_often(leases: Leases, store: Store, clock: Clock) -> None:
    """Remove what has expired: conversations, idempotency keys with their answers, used grants."""
    while True:
        try:
            leases.live_runs.shed_old(clock.now())
            await leases.sweep()
            await store.ledger.forget_expired(min(clock.now(), clock.wall()))  # grants expire by the wall clock
        except (GatewayError, OSError) as error:
            log.warning("sweep_failed", error=type(error).__name__)
        await asyncio.sleep(_SWEEP_EVERY_S)


async def remove_runs_often(store: Store, clock: Clock, retention_s: float) -> None:
    """Remove the records of trees that ended long ago."""
    while True:
        try:
            removed = await store.retention.remove_trees(min(clock.now(), clock.wall()) - retention_s)
            if removed:
                log.info("runs_removed", count=removed)
        except StoreError as error:
            log.warning("runs_not_removed", error=type(error).__name__)
        await asyncio.sleep(_REMOVE_RUNS_EVERY_S)


async def reread_often(profiles: Profiles) -> None:
    """Notice changed profiles also while no request asks for one, so that the log reports a broken one at once."""
    while True:
        await asyncio.sleep(_REREAD_EVERY_S)
        with suppress(OSError):
            profiles.list()  # looks at the files; to find all warnings takes far longer


async def enforce_often(revocation: Revocation) -> None:
    """Cancel the runs of keys that were revoked."""
    while True:
        try:
            await revocation.enforce()
        except StoreError as error:
            log.warning("revocations_not_read", error=type(error).__name__)
        await asyncio.sleep(_REVOKED_WITHIN_S)
