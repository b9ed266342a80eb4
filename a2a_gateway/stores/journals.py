"""The journals of runs: written in the transactions that open and close a run, read for those who inspect it."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from a2a_gateway.runs.journal import JournalEnd, RunJournal
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.model import RunId
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.schema import journals

_BEGIN: Final = insert(journals)
_END: Final = (
    update(journals)
    .where(journals.c.run_id == bindparam("of_run"))
    .values(workspace_dir=bindparam("where"), events=bindparam("encoded"))
)
_GET: Final = select(journals).where(journals.c.run_id == bindparam("of_run"))


@dataclass(frozen=True, slots=True)
class SqlJournals:
    """Reads journals; see `runs.journal.Journals`."""

    database: Database

    async def get(self, run_id: RunId) -> RunJournal | None:
        def work(connection: Connection) -> RunJournal | None:
            row = connection.execute(_GET, {"of_run": run_id}).one_or_none()
            return None if row is None else RunJournal(KeptText(row.task, row.task_is_truncated), row.workspace_dir, row.events)

        return await self.database.transaction(work)


def begin_journal(connection: Connection, run_id: RunId, task: KeptText) -> None:
    """Begin the journal of a run that is being opened."""
    connection.execute(_BEGIN, {"run_id": run_id, "task": task.text, "task_is_truncated": task.is_truncated})


def end_journal(connection: Connection, run_id: RunId, end: JournalEnd) -> None:
    """Complete the journal of a run that is being closed."""
    connection.execute(_END, {"of_run": run_id, "where": end.workspace_dir, "encoded": end.events})
