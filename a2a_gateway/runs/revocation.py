"""Revocation: the runs of a revoked key end at once, not at their next LLM call.

A key is revoked in the store, perhaps by another process, so the gateway polls the store. After the revocation the ledger refuses
every new call and run of the key. This module also cancels the runs, and with them the calls under way.
"""

import asyncio
from dataclasses import dataclass

from a2a_gateway.runs.live import LiveRuns
from a2a_gateway.runs.ports import Keys
from a2a_gateway.runs.service import RunService


@dataclass(frozen=True, slots=True)
class Revocation:
    """Ends the trees of revoked keys."""

    keys: Keys
    live_runs: LiveRuns
    service: RunService

    async def enforce(self) -> None:
        """Cancel the trees of revoked keys, and wait until they have ended. Without runs under way the store is not read.

        Raises:
            StoreError: the keys cannot be read.
        """
        roots = [live.record for live in self.live_runs if live.record.parent_id is None]
        if not roots:
            return
        revoked = {key.id: key for key in await self.keys.list_revoked({root.key_id for root in roots})}
        async with asyncio.TaskGroup() as ending:
            for root in roots:
                if root.key_id in revoked:
                    why = f"The key {revoked[root.key_id].name!r} behind this run was revoked."
                    ending.create_task(self.service.cancel(root.id, why=why))
