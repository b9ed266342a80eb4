"""The ledger: the record of runs and money. Implements `runs.ports.Ledger`; every method is one transaction.

It decides nothing itself. `runs.admission` and `runs.budget` decide whether a run may start or go on, and how much money a call
gets, inside the transaction that acts on it. `charges` has the money of one call as a table.

A caller may not find out whether its transaction was committed: it was cancelled, or the connection broke. Then a hold or a run
may exist that no caller has. The ledger remembers their ids (`_orphaned_holds`, `_orphaned_runs`), and undoes or ends them
later.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from a2a_gateway.errors import (
    AdmissionError,
    InternalError,
    RunCancelled,
    RunLost,
    RunTokenRevoked,
    StoreError,
)
from a2a_gateway.runs.admission import admit, permit_turn
from a2a_gateway.runs.budget import Account, Allotment, allot, allot_escrow
from a2a_gateway.runs.events import RunSummary
from a2a_gateway.runs.journal import JournalEnd
from a2a_gateway.runs.model import (
    LIVE_STATES,
    TRANSITIONS,
    CallQuote,
    Grant,
    IdempotencyKey,
    RunId,
    RunRecord,
    RunState,
    SpendCaps,
)
from a2a_gateway.runs.ports import Charge, Hold, RunProposal
from a2a_gateway.stores.charges import (
    CALL,
    ESCROW,
    accounts_of,
    allow_last_call,
    book,
    note_presumed,
    place_hold,
    remove_hold,
    require_key,
    today,
)
from a2a_gateway.stores.idempotency import (
    KeyTaken,
    delete_expired,
    record_grant,
    record_key,
    resolve_key,
)
from a2a_gateway.stores.journals import begin_journal, end_journal
from a2a_gateway.stores.presumed_charges import presume_open, presume_overdue, undo_holds
from a2a_gateway.stores.rows import run_of, values_of_new_run
from a2a_gateway.stores.run_queries import NO_CAPS, SqlRunQueries
from a2a_gateway.stores.schema import answers, runs
from a2a_gateway.stores.summary import summarize
from a2a_gateway.stores.tree import path_to, require_path, require_rows

_LIVE: Final = sorted(LIVE_STATES)

_LIVE_CHILDREN: Final = (
    select(func.count()).select_from(runs).where(runs.c.parent_id == bindparam("run_id"), runs.c.state.in_(_LIVE))
)
_INSERT_RUN: Final = insert(runs)
_ADD_DESCENDANT: Final = update(runs).where(runs.c.id == bindparam("account_id")).values(descendants=runs.c.descendants + 1)
_START: Final = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"), runs.c.state == RunState.QUEUED.value)
    .values(state=RunState.RUNNING.value, started_at=bindparam("now"))
    .returning(runs)
)
_CLOSE: Final = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(
        state=bindparam("new_state"),
        ended_at=bindparam("now"),
        stop_reason=bindparam("reason"),
        error_code=bindparam("code"),
    )
)
_END_ALL: Final = (
    update(runs)
    .where(runs.c.state.in_(_LIVE))
    .values(state=RunState.LOST.value, ended_at=bindparam("now"), stop_reason=RunLost.code, error_code=RunLost.code)
)
_END_RUN: Final = _END_ALL.where(runs.c.id == bindparam("run_id"))
_NOTE_REMOTE: Final = update(runs).where(runs.c.id == bindparam("account_id")).values(remote_run_id=bindparam("remote"))


class _Decision(Protocol):
    """Decides within the transaction how much money a hold gets."""

    def __call__(self, path: Sequence[RunRecord], accounts: Sequence[Account], *, had_last_call: bool) -> Allotment: ...


@dataclass(frozen=True, slots=True)
class SqlLedger(SqlRunQueries):
    """The ledger in a database; see `runs.ports.Ledger` for its contract."""

    answer_ttl_s: float = 86_400.0
    _orphaned_holds: set[str] = field(default_factory=set)
    """Holds that may exist and that no caller has."""
    _orphaned_runs: set[RunId] = field(default_factory=set)
    """Runs that may exist and that no caller leads."""

    async def open_run(self, proposal: RunProposal) -> RunRecord:
        now, day = self.clock.now(), today(self.clock)

        def work(connection: Connection) -> RunRecord:
            earlier = resolve_key(connection, proposal.idempotency_key, now) if proposal.idempotency_key else None
            if earlier is not None:
                return earlier
            ancestors = path_to(connection, proposal.parent_id, lock=True) if proposal.parent_id else []
            if proposal.parent_id and not ancestors:
                raise RunTokenRevoked("The run behind this token is not known here; its token opens no runs.")
            siblings = connection.scalar(_LIVE_CHILDREN, {"run_id": proposal.parent_id}) or 0 if ancestors else 0
            key = require_key(connection, ancestors[-1].key_id if ancestors else proposal.key_id)
            accounts = accounts_of(connection, ancestors, key, proposal.agent, proposal.caps, day, below=True)
            record = admit(proposal, ancestors=ancestors, live_siblings=siblings, key=key, accounts=accounts, now=now)
            connection.execute(_INSERT_RUN, values_of_new_run(record))
            if proposal.task is not None:
                begin_journal(connection, record.id, proposal.task)
            if proposal.idempotency_key:
                record_key(connection, proposal.idempotency_key, record.id)
            if proposal.grant:
                record_grant(connection, proposal.grant)
            if ancestors:
                connection.execute(_ADD_DESCENDANT, [{"account_id": run.id} for run in ancestors])
            return record

        try:
            while True:
                with suppress(KeyTaken):
                    return await self.database.transaction(work)
        except StoreError:
            self._orphaned_runs.add(proposal.id)
            raise

    async def find_run_of_key(self, key: IdempotencyKey, grant: Grant | None = None) -> RunRecord | None:
        now = self.clock.now()
        return await self.database.transaction(lambda connection: resolve_key(connection, key, now, grant))

    async def start_run(self, run_id: RunId) -> RunRecord:
        now = self.clock.now()

        def work(connection: Connection) -> RunRecord:
            row = connection.execute(_START, {"run_id": run_id, "now": now}).one_or_none()
            if row is not None:
                return run_of(row)
            run = require_path(connection, run_id)[-1]
            if run.state is RunState.RUNNING:
                raise InternalError(f"Run {run_id} was started twice.")
            raise RunCancelled(f"Run {run_id} is {run.state}; it ended before it could start.", details={"run_id": run_id})

        return await self.database.transaction(work)

    async def reserve(self, run_id: RunId, quote: CallQuote, caps: SpendCaps = NO_CAPS) -> Hold:
        def decide(path: Sequence[RunRecord], accounts: Sequence[Account], *, had_last_call: bool) -> Allotment:
            try:
                return allot(quote, accounts, may_be_last=quote.is_turn and not had_last_call)
            except AdmissionError as error:
                raise error.with_details(run_id=run_id, tree_id=path[-1].tree_id) from None

        return await self._hold(run_id, caps, CALL, decide)

    async def escrow(self, run_id: RunId, caps: SpendCaps = NO_CAPS) -> Hold:
        def decide(path: Sequence[RunRecord], accounts: Sequence[Account], *, had_last_call: bool) -> Allotment:
            try:
                return allot_escrow(accounts)
            except AdmissionError as error:
                raise error.with_details(run_id=run_id, tree_id=path[-1].tree_id) from None

        return await self._hold(run_id, caps, ESCROW, decide)

    async def _hold(self, run_id: RunId, caps: SpendCaps, kind: str, decide: "_Decision") -> Hold:
        now, day, hold_id = self.clock.now(), today(self.clock), uuid.uuid4().hex

        def work(connection: Connection) -> Hold:
            rows = require_rows(connection, run_id, lock=True)
            path = [run_of(row) for row in rows]
            run = path[-1]
            key = require_key(connection, run.key_id)
            permit_turn(path, key=key, now=now)
            accounts = accounts_of(connection, path, key, run.agent, caps, day)
            allotment = decide(path, accounts, had_last_call=rows[-1].had_last_call)
            hold = Hold(
                hold_id,
                run_id,
                allotment.reserved_micro_usd,
                allotment.max_output_tokens,
                allotment.last,
                allotment.budget_micro_usd,
                allotment.left_micro_usd,
                allotment.presumed_micro_usd,
            )
            place_hold(connection, hold, path, kind=kind, day=day, now=now)
            return hold

        try:
            return await self.database.transaction(work)
        except (asyncio.CancelledError, StoreError) as error:
            # The caller never gets the hold, so only the ledger can undo it.
            self._orphaned_holds.add(hold_id)
            if isinstance(error, asyncio.CancelledError):
                with suppress(StoreError):  # then `forget_expired` undoes it
                    await self._undo_orphaned_holds()
            raise

    async def _undo_orphaned_holds(self) -> None:
        orphaned = frozenset(self._orphaned_holds)
        if orphaned:
            await self.database.transaction(lambda connection: undo_holds(connection, orphaned))
            self._orphaned_holds.difference_update(orphaned)

    async def _end_orphaned_runs(self, now: float) -> None:
        orphaned = frozenset(self._orphaned_runs)
        if orphaned:
            lost = [{"run_id": run_id, "now": now} for run_id in orphaned]
            await self.database.transaction(lambda connection: connection.execute(_END_RUN, lost).close())
            self._orphaned_runs.difference_update(orphaned)

    async def settle(self, hold: Hold, charge: Charge) -> None:
        usage, cost = charge.usage, charge.cost_micro_usd or 0
        if min(cost, usage.prompt, usage.completion, usage.cached, usage.reasoning, charge.turns, charge.runs) < 0:
            raise ValueError(f"a charge must not be negative: {charge}")

        def work(connection: Connection) -> None:
            path = require_path(connection, hold.run_id, lock=True)
            removed = remove_hold(connection, hold.id)
            if removed is not None:
                book(connection, removed, path, charge)
                if hold.last and charge.is_nothing:
                    allow_last_call(connection, hold.run_id)

        await self.database.transaction(work)

    async def presume(self, used_micro_usd: Mapping[str, int]) -> None:
        await self.database.transaction(lambda connection: note_presumed(connection, used_micro_usd))

    async def note_remote(self, run_id: RunId, remote_run_id: str) -> None:
        values = {"account_id": run_id, "remote": remote_run_id}
        await self.database.transaction(lambda connection: connection.execute(_NOTE_REMOTE, values).close())

    async def close_run(
        self,
        run_id: RunId,
        state: RunState,
        *,
        stop_reason: str,
        error_code: str | None = None,
        answer: str | None = None,
        journal: JournalEnd | None = None,
        caps: SpendCaps = NO_CAPS,
    ) -> RunSummary:
        now, day = self.clock.now(), today(self.clock)

        def work(connection: Connection) -> RunSummary:
            *ancestors, run = require_path(connection, run_id, lock=True)
            if run.state in LIVE_STATES:
                if state not in TRANSITIONS[run.state] - LIVE_STATES:
                    raise InternalError(f"Run {run_id} is {run.state}, and cannot end as {state}.")
                complete = run.cost_complete and run.reserved_micro_usd == 0
                run = replace(
                    run, state=state, ended_at=now, stop_reason=stop_reason, error_code=error_code, cost_complete=complete
                )
                connection.execute(
                    _CLOSE,
                    {"run_id": run_id, "new_state": state.value, "now": now, "reason": stop_reason, "code": error_code},
                )
                if answer is not None:
                    connection.execute(insert(answers), {"run_id": run_id, "body": answer, "expires_at": now + self.answer_ttl_s})
                if journal is not None:
                    end_journal(connection, run_id, journal)
            return summarize(connection, [*ancestors, run], caps, day)

        return await self.database.transaction(work)

    async def forget_expired(self, now: float) -> None:
        """Delete expired idempotency keys, answers and grants; undo orphaned holds, end orphaned runs; charge overdue holds."""
        await self._undo_orphaned_holds()
        await self._end_orphaned_runs(now)

        def work(connection: Connection) -> None:
            connection.execute(delete(answers).where(answers.c.expires_at <= now))
            delete_expired(connection, now)
            presume_overdue(connection, now)

        await self.database.transaction(work)

    async def mark_lost(self) -> int:
        """End every live run as `lost` after a crash, and charge each open hold its presumed cost. Return the number of runs."""
        now = self.clock.now()

        def work(connection: Connection) -> int:
            presume_open(connection)
            return connection.execute(_END_ALL, {"now": now}).rowcount

        return await self.database.transaction(work)
