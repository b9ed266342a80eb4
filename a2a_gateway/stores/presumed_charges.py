"""Holds that will not be settled: of a gateway that crashed, of callers that were cancelled, of calls that could never be booked.

Functions of one transaction, below the ledger. Each locks all accounts of its holds before it touches the first, so that others
wait for it, and it for none.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from a2a_gateway.runs.budget import RECONCILED_WITHIN_S, SETTLED_WITHIN_S
from a2a_gateway.runs.model import RunId, RunRecord
from a2a_gateway.runs.ports import Charge
from a2a_gateway.stores.charges import OPEN, PRESUMED, book, charge_estimate, give_back, take_hold
from a2a_gateway.stores.rows import AnyRow
from a2a_gateway.stores.schema import holds, runs
from a2a_gateway.stores.tree import LOCK_PATHS_OF_HOLDS, known_path

_OPEN: Final = select(holds.c.id).where(holds.c.state == OPEN)
_NEVER_SETTLED: Final = _OPEN.join(runs, runs.c.id == holds.c.run_id).where(runs.c.ended_at <= bindparam("ended_before"))
_NEVER_RECONCILED: Final = delete(holds).where(holds.c.state == PRESUMED, holds.c.created_at <= bindparam("made_before"))


def presume_open(connection: Connection) -> None:
    """Charge every call of a dead process with what it has presumably used, as `runs.budget` explains."""
    for placed, path in _taken(connection, connection.scalars(_OPEN).all()):
        charge_estimate(connection, placed, path, placed.presumed_micro_usd)


def presume_overdue(connection: Connection, now: float) -> None:
    """Charge overdue holds in full, and delete presumed holds that were never reconciled.

    In full, because this process is alive: the runs above may go on, and a low estimate would let them pass their budget.
    """
    for placed, path in _taken(connection, connection.scalars(_NEVER_SETTLED, {"ended_before": now - SETTLED_WITHIN_S}).all()):
        charge_estimate(connection, placed, path, placed.reserved_micro_usd)
    connection.execute(_NEVER_RECONCILED, {"made_before": now - RECONCILED_WITHIN_S}).close()


def undo(connection: Connection, hold_ids: Collection[str]) -> None:
    """Give back what was set aside for calls that were never made; ids of which there is no hold are ignored."""
    for placed, path in _taken(connection, hold_ids):
        if placed.state == PRESUMED:  # charged by now
            book(connection, placed, path, Charge(turns=0))
        else:
            give_back(connection, placed, path)


def _taken(connection: Connection, hold_ids: Collection[str]) -> Iterator[tuple[AnyRow, Sequence[RunRecord]]]:
    """Remove holds, and yield each with the runs whose accounts it is in, all of which are locked before the first."""
    connection.execute(LOCK_PATHS_OF_HOLDS, {"hold_ids": list(hold_ids)}).close()
    for hold_id in sorted(hold_ids):
        placed = take_hold(connection, hold_id)
        if placed is not None:
            yield placed, known_path(connection, RunId(placed.run_id))
