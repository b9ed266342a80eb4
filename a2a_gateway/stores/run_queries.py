"""Read what the ledger has of runs. `stores.ledger` writes it; every method is one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Executable, bindparam, select

from a2a_gateway.runs.events import RunSummary
from a2a_gateway.runs.model import KeyId, RunId, RunRecord, SpendCaps
from a2a_gateway.runs.ports import Clock, Hold
from a2a_gateway.stores.charges import ESCROW, PRESUMED, today
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.idempotency import get_run_of_key
from a2a_gateway.stores.rows import run_of
from a2a_gateway.stores.schema import answers, holds, runs
from a2a_gateway.stores.summary import summarize
from a2a_gateway.stores.tree import SUBTREE, path_to

NO_CAPS: Final = SpendCaps()

_RUN: Final = select(runs).where(runs.c.id == bindparam("run_id"))
_AFTER_HEX_DIGITS: Final = "g"
_BY_PREFIX: Final = (
    select(runs)
    .where(runs.c.id.between(bindparam("prefix"), bindparam("end")), runs.c.key_id == bindparam("of_key"))
    .order_by(runs.c.created_at.desc(), runs.c.id)
    .limit(bindparam("most"))
)
_CHILDREN: Final = (
    select(runs).where(runs.c.parent_id == bindparam("run_id")).order_by(runs.c.created_at, runs.c.id).limit(bindparam("most"))
)
_ANSWER: Final = select(answers.c.body).where(answers.c.run_id == bindparam("run_id"))
_UNRECONCILED: Final = (
    select(runs, holds.c.id.label("hold_id"), holds.c.reserved_micro_usd.label("held_micro_usd"))
    .join(holds, holds.c.run_id == runs.c.id)
    .where(holds.c.kind == ESCROW, holds.c.state == PRESUMED)
    .order_by(holds.c.created_at)
)


@dataclass(frozen=True, slots=True)
class SqlRunQueries:
    """The queries of `runs.ports.Ledger`, and of the command line."""

    database: Database
    clock: Clock

    async def get_run(self, run_id: RunId) -> RunRecord | None:
        def work(connection: Connection) -> RunRecord | None:
            row = connection.execute(_RUN, {"run_id": run_id}).one_or_none()
            return None if row is None else run_of(row)

        return await self.database.transaction(work)

    async def answer_of(self, run_id: RunId) -> str | None:
        def work(connection: Connection) -> str | None:
            return connection.scalar(_ANSWER, {"run_id": run_id})

        return await self.database.transaction(work)

    async def run_of_origin(self, key_id: KeyId, origin: str) -> RunRecord | None:
        statement = (
            select(runs).where(runs.c.key_id == key_id, runs.c.origin == origin).order_by(runs.c.created_at.desc()).limit(1)
        )

        def work(connection: Connection) -> RunRecord | None:
            row = connection.execute(statement).one_or_none()
            return None if row is None else run_of(row)

        return await self.database.transaction(work)

    async def get_run_of_key(self, scope: str, key: str) -> RunRecord | None:
        return await self.database.transaction(lambda connection: get_run_of_key(connection, scope, key))

    async def list_unreconciled(self) -> Sequence[tuple[RunRecord, Hold]]:
        def work(connection: Connection) -> Sequence[tuple[RunRecord, Hold]]:
            rows = connection.execute(_UNRECONCILED)
            return [(run_of(row), Hold(row.hold_id, RunId(row.id), row.held_micro_usd)) for row in rows]

        return await self.database.transaction(work)

    async def summary(self, run_id: RunId, caps: SpendCaps = NO_CAPS) -> RunSummary | None:
        day = today(self.clock)

        def work(connection: Connection) -> RunSummary | None:
            path = path_to(connection, run_id)
            return summarize(connection, path, caps, day) if path else None

        return await self.database.transaction(work)

    async def subtree(self, run_id: RunId) -> Sequence[RunRecord]:
        return await self._list_runs(SUBTREE, {"run_id": run_id})

    async def list_children(self, run_id: RunId, limit: int) -> Sequence[RunRecord]:
        """List the first runs directly below a run, oldest first."""
        return await self._list_runs(_CHILDREN, {"run_id": run_id, "most": limit})

    async def find_runs(self, key_id: KeyId, id_prefix: str, limit: int) -> Sequence[RunRecord]:
        values = {"of_key": key_id, "prefix": id_prefix, "end": id_prefix + _AFTER_HEX_DIGITS, "most": limit}
        return await self._list_runs(_BY_PREFIX, values)

    async def recent_runs(self, key_id: KeyId | None, limit: int) -> Sequence[RunRecord]:
        statement = select(runs).where(runs.c.parent_id.is_(None)).order_by(runs.c.created_at.desc(), runs.c.id).limit(limit)
        if key_id is not None:
            statement = statement.where(runs.c.key_id == key_id)
        return await self._list_runs(statement)

    async def _list_runs(self, statement: Executable, values: Mapping[str, object] | None = None) -> Sequence[RunRecord]:
        return await self.database.transaction(lambda connection: [run_of(row) for row in connection.execute(statement, values)])
