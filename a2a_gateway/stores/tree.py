"""Walk a tree of runs up to the root and down to the leaves. The statements are built once, so each is compiled only once."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import CTE, BigInteger, Connection, bindparam, cast, func, select

from a2a_gateway.errors import RunNotFound
from a2a_gateway.runs.model import RunId, RunRecord
from a2a_gateway.stores.rows import AnyRow, run_of
from a2a_gateway.stores.schema import holds, runs


def _and_above(start: CTE) -> CTE:
    """Extend a CTE of `id, parent_id` recursively by all ancestors."""
    above = runs.alias("above")
    return start.union(select(above.c.id, above.c.parent_id).join(start, above.c.id == start.c.parent_id))


def _and_below(start: CTE) -> CTE:
    """Extend a CTE of `id` recursively by all descendants."""
    below = runs.alias("below")
    return start.union(select(below.c.id).join(start, below.c.parent_id == start.c.id))


_path = _and_above(select(runs.c.id, runs.c.parent_id).where(runs.c.id == bindparam("run_id")).cte("path", recursive=True))
_hold_paths = _and_above(
    select(runs.c.id, runs.c.parent_id)
    .where(runs.c.id.in_(select(holds.c.run_id).where(holds.c.id.in_(bindparam("hold_ids", expanding=True)))))
    .cte("held", recursive=True)
)
_subtree = _and_below(select(runs.c.id).where(runs.c.id == bindparam("run_id")).cte("subtree", recursive=True))

PATH: Final = select(runs).where(runs.c.id.in_(select(_path.c.id))).order_by(runs.c.depth)
"""The run `run_id` and all above it, root first."""

PATH_LOCKED: Final = PATH.with_for_update(of=runs)
"""The same, for a transaction that changes amounts. Runs are locked from the root down, so two of them cannot deadlock."""

LOCK_PATHS_OF_HOLDS: Final = (
    select(runs.c.id).where(runs.c.id.in_(select(_hold_paths.c.id))).order_by(runs.c.depth, runs.c.id).with_for_update(of=runs)
)
"""Lock the runs of these `hold_ids` and all runs above them, in the same order, for a transaction that changes many trees."""

SUBTREE: Final = select(runs).where(runs.c.id.in_(select(_subtree.c.id))).order_by(runs.c.depth, runs.c.created_at, runs.c.id)
"""The run `run_id` and all below it, parents before children."""

DESCENDANTS_BY_AGENT: Final = (
    select(
        runs.c.agent,
        func.count().label("runs"),
        *(  # PostgreSQL's sum of integers is a decimal
            cast(func.sum(runs.c[name]), BigInteger).label(name)
            for name in ("cost_self_micro_usd", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
        ),
    )
    .where(runs.c.id.in_(select(_subtree.c.id)), runs.c.id != bindparam("run_id"))
    .group_by(runs.c.agent)
    .order_by(runs.c.agent)
)
"""What the runs below `run_id` used, by agent."""

ANY_HOLD_BELOW: Final = (
    select(holds.c.id)
    .where(holds.c.kind == bindparam("kind"), holds.c.state == bindparam("state"), holds.c.run_id.in_(select(_subtree.c.id)))
    .limit(1)
)
"""A hold of the run `run_id`, or of one below it; of that `kind`, in that `state`."""


def path_to(connection: Connection, run_id: RunId, *, lock: bool = False) -> list[RunRecord]:
    """Read the runs from the root to a run, which is last. The list is empty if there is no such run."""
    return [run_of(row) for row in connection.execute(PATH_LOCKED if lock else PATH, {"run_id": run_id})]


def require_path(connection: Connection, run_id: RunId, *, lock: bool = False) -> list[RunRecord]:
    """Do what `path_to` does for a run that must exist.

    Raises:
        RunNotFound: it does not exist.
    """
    return [run_of(row) for row in require_rows(connection, run_id, lock=lock)]


def require_rows(connection: Connection, run_id: RunId, *, lock: bool = False) -> Sequence[AnyRow]:
    """Read the rows of the runs that `require_path` returns."""
    rows = connection.execute(PATH_LOCKED if lock else PATH, {"run_id": run_id}).all()
    if not rows:
        raise RunNotFound(f"There is no run {run_id}.")
    return rows
