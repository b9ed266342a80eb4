"""Remove the records of runs that ended long ago: whole trees, in batches that keep each transaction short.

No budget changes with them. What keys and profiles have spent is kept in sums of its own (`spend`, `keys.spent_micro_usd`). Those
sums and the open holds decide every budget of a day, of a month or in total.

A tree stays as long as a request may ask for one of its runs, or its cost may change. That is so while it has one of these: a run
that is live or ended recently, a hold (open or presumed), an idempotency key, a kept answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, or_, select, tuple_

from a2a_gateway.runs.model import KeyId
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.schema import answers, holds, idempotency_keys, keys, runs

BATCH_ROWS: Final = 500
"""About how many runs one transaction examines. A tree is never split, so a larger tree is a batch of its own."""
_BATCH_TREES: Final = 100
_PAUSE_S: Final = 0.05
"""Pause between two batches, in which the transactions of live runs get their turn."""

_start: Final = (
    select(runs.c.id, runs.c.id.label("root_id"))
    .where(runs.c.id.in_(bindparam("root_ids", expanding=True)))
    .cte("tree", recursive=True)
)
_below: Final = runs.alias("below")
_tree: Final = _start.union_all(select(_below.c.id, _start.c.root_id).join(_start, _below.c.parent_id == _start.c.id))

_OLD_ROOTS: Final = (
    select(runs.c.id, runs.c.created_at, runs.c.descendants)
    .where(
        # Key and time of creation are in the index of roots. Another index would have to be maintained by every request.
        runs.c.parent_id.is_(None),
        runs.c.key_id == bindparam("key_id"),
        runs.c.created_at <= bindparam("ended_before"),
        tuple_(runs.c.created_at, runs.c.id) > tuple_(bindparam("created_at"), bindparam("root_id")),
    )
    .order_by(runs.c.created_at, runs.c.id)
    .limit(_BATCH_TREES)
)
_NEEDED_ROOTS: Final = (
    select(_tree.c.root_id)
    .join(runs, runs.c.id == _tree.c.id)
    .where(
        or_(
            runs.c.ended_at.is_(None),
            runs.c.ended_at > bindparam("ended_before"),
            runs.c.id.in_(select(holds.c.run_id)),
            exists().where(idempotency_keys.c.run_id == runs.c.id),
            exists().where(answers.c.run_id == runs.c.id),
        )
    )
)
_REMOVE: Final = delete(runs).where(runs.c.id.in_(select(_tree.c.id))).returning(runs.c.id)


class _Position(NamedTuple):
    """How far the trees of a key have been examined. Trees that are still needed are skipped, and examined the next time."""

    created_at: float = float("-inf")
    root_id: str = ""


@dataclass(frozen=True, slots=True)
class SqlRetention:
    """Removes old runs from a database."""

    database: Database

    async def remove_trees(self, ended_before: float) -> int:
        """Remove the trees that had ended by an instant and are no longer needed. Return how many runs they had."""
        removed = 0
        for key_id in await self.database.transaction(_key_ids):
            position: _Position | None = _Position()
            while position is not None:
                count, position = await self._remove_batch(key_id, ended_before, position)
                removed += count
                if count:
                    await asyncio.sleep(_PAUSE_S)
        return removed

    async def _remove_batch(self, key_id: KeyId, ended_before: float, after: _Position) -> tuple[int, _Position | None]:
        def work(connection: Connection) -> tuple[int, _Position | None]:
            looked_for = {"key_id": key_id, "ended_before": ended_before, **after._asdict()}
            old = connection.execute(_OLD_ROOTS, looked_for).all()
            if not old:
                return 0, None
            batch = old[: _trees_in_batch([1 + root.descendants for root in old])]
            root_ids = [root.id for root in batch]
            needed = set(connection.scalars(_NEEDED_ROOTS, {"root_ids": root_ids, "ended_before": ended_before}))
            unneeded = [root_id for root_id in root_ids if root_id not in needed]
            removed = connection.execute(_REMOVE, {"root_ids": unneeded}).all() if unneeded else ()
            return len(removed), _Position(batch[-1].created_at, batch[-1].id)

        return await self.database.transaction(work)


def _key_ids(connection: Connection) -> Sequence[KeyId]:
    return [KeyId(key_id) for key_id in connection.scalars(select(keys.c.id).order_by(keys.c.id))]


def _trees_in_batch(sizes: Sequence[int]) -> int:
    """Return how many trees of these sizes make a batch, at least one."""
    fitting = [rows for rows in accumulate(sizes) if rows <= BATCH_ROWS]
    return max(1, len(fitting))
