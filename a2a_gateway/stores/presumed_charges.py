"""End holds that will not be settled as usual. Functions of one transaction, below the ledger.

| cause | what is charged | the hold afterwards |
|---|---|---|
| the gateway crashed (`presume_open`) | the presumed cost: what the call has probably used | presumed |
| the hold is overdue (`presume_overdue`) | the whole reserved amount, because runs above may go on spending | presumed |
| the caller never received the hold (`undo_holds`) | nothing; an earlier estimate is taken back | removed |
| a presumed hold was never reconciled (`presume_overdue`) | the estimate stays | removed |

Lock order: each function first locks the runs of all its holds, tree by tree from the root down, and changes them afterwards. So
other transactions wait for it, and it cannot deadlock with them.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from a2a_gateway.runs.budget import RECONCILED_WITHIN_S, SETTLED_WITHIN_S
from a2a_gateway.runs.model import RunId, RunRecord
from a2a_gateway.runs.ports import Charge
from a2a_gateway.stores.charges import OPEN, PRESUMED, book, charge_estimate, release_hold, remove_hold
from a2a_gateway.stores.rows import AnyRow
from a2a_gateway.stores.schema import holds, runs
from a2a_gateway.stores.tree import LOCK_PATHS_OF_HOLDS, require_path

_OPEN: Final = select(holds.c.id).where(holds.c.state == OPEN)
_NEVER_SETTLED: Final = _OPEN.join(runs, runs.c.id == holds.c.run_id).where(runs.c.ended_at <= bindparam("ended_before"))
_NEVER_RECONCILED: Final = delete(holds).where(holds.c.state == PRESUMED, holds.c.created_at <= bindparam("made_before"))


def presume_open(connection: Connection) -> None:
    """Charge each open hold of a dead process its presumed cost, as `runs.budget` explains."""
    for hold, path in _take(connection, connection.scalars(_OPEN).all()):
        charge_estimate(connection, hold, path, hold.presumed_micro_usd)


def presume_overdue(connection: Connection, now: float) -> None:
    """Charge overdue holds in full, and delete presumed holds that were never reconciled.

    In full, because this process is alive: the runs above may go on, and with a low estimate they could exceed their budget.
    """
    for hold, path in _take(connection, connection.scalars(_NEVER_SETTLED, {"ended_before": now - SETTLED_WITHIN_S}).all()):
        charge_estimate(connection, hold, path, hold.reserved_micro_usd)
    connection.execute(_NEVER_RECONCILED, {"made_before": now - RECONCILED_WITHIN_S}).close()


def undo_holds(connection: Connection, hold_ids: Collection[str]) -> None:
    """Release the money of calls that were never made. Ids without a hold are ignored."""
    for hold, path in _take(connection, hold_ids):
        if hold.state == PRESUMED:  # an estimate has been charged by now
            book(connection, hold, path, Charge(turns=0))
        else:
            release_hold(connection, hold, path)


def _take(connection: Connection, hold_ids: Collection[str]) -> Iterator[tuple[AnyRow, Sequence[RunRecord]]]:
    """Lock the runs of all holds, then remove each hold and yield it with the path of its run."""
    connection.execute(LOCK_PATHS_OF_HOLDS, {"hold_ids": list(hold_ids)}).close()
    for hold_id in sorted(hold_ids):
        hold = remove_hold(connection, hold_id)
        if hold is not None:
            yield hold, require_path(connection, RunId(hold.run_id))
