"""The ledger: the truth about runs and money. Satisfies `runs.ports.Ledger`; every method is one transaction.

It decides nothing itself: whether a run may start or go on is `runs.admission`'s answer, given inside the transaction that acts
on it. A charge is booked on the run and on every run above it at once, so at any moment the sum of `cost_self` over a tree is its
root's `cost_tree`.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from a2a_gateway.errors import AuthenticationError, InternalError, RunCancelled, RunNotFound, RunTokenRevoked
from a2a_gateway.runs.admission import admit, budget_left, permit_turn
from a2a_gateway.runs.events import AgentCost, RunSummary
from a2a_gateway.runs.model import LIVE_STATES, TRANSITIONS, KeyId, KeyRecord, RunId, RunRecord, RunState, TokenUsage
from a2a_gateway.runs.ports import Clock, Hold, RunProposal
from a2a_gateway.stores.database import Database
from a2a_gateway.stores.rows import key_of, run_of, values_of_new_run
from a2a_gateway.stores.schema import holds, keys, runs
from a2a_gateway.stores.tree import DESCENDANTS_BY_AGENT, PATH, PATH_LOCKED, SUBTREE, WITH_OPEN_HOLDS

_LIVE: Final = sorted(LIVE_STATES)

_RUN: Final = select(runs).where(runs.c.id == bindparam("run_id"))
_KEY: Final = select(keys).where(keys.c.id == bindparam("key_id"))
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
_INSERT_HOLD: Final = insert(holds)
_DELETE_HOLD: Final = delete(holds).where(holds.c.id == bindparam("hold_id"))
_CHARGE_RUN: Final = (
    update(runs)
    .where(runs.c.id == bindparam("account_id"))
    .values(
        turns=runs.c.turns + bindparam("more_turns"),
        prompt_tokens=runs.c.prompt_tokens + bindparam("more_prompt"),
        completion_tokens=runs.c.completion_tokens + bindparam("more_completion"),
        cached_tokens=runs.c.cached_tokens + bindparam("more_cached"),
        reasoning_tokens=runs.c.reasoning_tokens + bindparam("more_reasoning"),
        cost_self_micro_usd=runs.c.cost_self_micro_usd + bindparam("more_self"),
        cost_tree_micro_usd=runs.c.cost_tree_micro_usd + bindparam("more_tree"),
        cost_complete=and_(runs.c.cost_complete, bindparam("complete")),
    )
)
_CHARGE_KEY: Final = (
    update(keys)
    .where(keys.c.id == bindparam("account_id"))
    .values(spent_micro_usd=keys.c.spent_micro_usd + bindparam("more_spent"))
)


@dataclass(frozen=True, slots=True)
class SqlLedger:
    """The ledger in a database; see `runs.ports.Ledger` for its contract."""

    database: Database
    clock: Clock

    async def open_run(self, proposal: RunProposal) -> RunRecord:
        now = self.clock.now()

        def work(connection: Connection) -> RunRecord:
            ancestors = _path(connection, proposal.parent_id, lock=True) if proposal.parent_id else []
            if proposal.parent_id and not ancestors:
                raise RunTokenRevoked("The run behind this token is not known here; its token opens no runs.")
            siblings = connection.scalar(_LIVE_CHILDREN, {"run_id": proposal.parent_id}) or 0 if ancestors else 0
            key = _key(connection, ancestors[-1].key_id if ancestors else proposal.key_id)
            record = admit(proposal, ancestors=ancestors, live_siblings=siblings, key=key, now=now)
            connection.execute(_INSERT_RUN, values_of_new_run(record))
            if ancestors:
                connection.execute(_ADD_DESCENDANT, [{"account_id": run.id} for run in ancestors])
            return record

        return await self.database.transaction(work)

    async def start_run(self, run_id: RunId) -> RunRecord:
        now = self.clock.now()

        def work(connection: Connection) -> RunRecord:
            row = connection.execute(_START, {"run_id": run_id, "now": now}).one_or_none()
            if row is not None:
                return run_of(row)
            run = _known_path(connection, run_id)[-1]
            if run.state is RunState.RUNNING:
                raise InternalError(f"Run {run_id} was started twice.")
            raise RunCancelled(f"Run {run_id} is {run.state}; it ended before it could start.", details={"run_id": run_id})

        return await self.database.transaction(work)

    async def reserve(self, run_id: RunId) -> Hold:
        now = self.clock.now()
        hold = Hold(uuid.uuid4().hex, run_id)

        def work(connection: Connection) -> Hold:
            path = _known_path(connection, run_id)
            permit_turn(path, key=_key(connection, path[-1].key_id), now=now)
            connection.execute(
                _INSERT_HOLD,
                {"id": hold.id, "run_id": run_id, "reserved_micro_usd": hold.reserved_micro_usd, "created_at": now},
            )
            return hold

        try:
            return await self.database.transaction(work)
        except asyncio.CancelledError:
            # The caller never got the hold, so nobody else can end it.
            await self.database.transaction(lambda connection: connection.execute(_DELETE_HOLD, {"hold_id": hold.id}))
            raise

    async def settle(self, hold: Hold, usage: TokenUsage, cost_micro_usd: int | None) -> None:
        cost, complete = cost_micro_usd or 0, cost_micro_usd is not None or usage == TokenUsage()
        if min(cost, usage.prompt, usage.completion, usage.cached, usage.reasoning) < 0:
            raise ValueError(f"a turn cannot use less than nothing: {usage}, {cost_micro_usd} micro-USD")

        def work(connection: Connection) -> None:
            if connection.execute(_DELETE_HOLD, {"hold_id": hold.id}).rowcount == 0:
                return
            *ancestors, run = _known_path(connection, hold.run_id, lock=True)
            own = _charge(run, usage, cost, cost_self=cost, complete=complete, turns=1)
            above = [_charge(ancestor, TokenUsage(), cost, cost_self=0, complete=complete, turns=0) for ancestor in ancestors]
            connection.execute(_CHARGE_RUN, [*above, own])
            if cost:
                connection.execute(_CHARGE_KEY, {"account_id": run.key_id, "more_spent": cost})

        await self.database.transaction(work)

    async def close_run(self, run_id: RunId, state: RunState, *, stop_reason: str, error_code: str | None = None) -> RunSummary:
        now = self.clock.now()

        def work(connection: Connection) -> RunSummary:
            *ancestors, run = _known_path(connection, run_id, lock=True)
            if run.state in LIVE_STATES:
                if state not in TRANSITIONS[run.state] - LIVE_STATES:
                    raise InternalError(f"Run {run_id} is {run.state}, and cannot end as {state}.")
                run = replace(run, state=state, ended_at=now, stop_reason=stop_reason, error_code=error_code)
                connection.execute(
                    _CLOSE,
                    {"run_id": run_id, "new_state": state.value, "now": now, "reason": stop_reason, "code": error_code},
                )
            return _summary(connection, [*ancestors, run])

        return await self.database.transaction(work)

    async def get_run(self, run_id: RunId) -> RunRecord | None:
        def work(connection: Connection) -> RunRecord | None:
            row = connection.execute(_RUN, {"run_id": run_id}).one_or_none()
            return None if row is None else run_of(row)

        return await self.database.transaction(work)

    async def summary(self, run_id: RunId) -> RunSummary | None:
        def work(connection: Connection) -> RunSummary | None:
            path = _path(connection, run_id)
            return _summary(connection, path) if path else None

        return await self.database.transaction(work)

    async def subtree(self, run_id: RunId) -> Sequence[RunRecord]:
        def work(connection: Connection) -> Sequence[RunRecord]:
            return [run_of(row) for row in connection.execute(SUBTREE, {"run_id": run_id})]

        return await self.database.transaction(work)

    async def recent_runs(self, key_id: KeyId | None, limit: int) -> Sequence[RunRecord]:
        statement = select(runs).where(runs.c.parent_id.is_(None)).order_by(runs.c.created_at.desc(), runs.c.id).limit(limit)
        if key_id is not None:
            statement = statement.where(runs.c.key_id == key_id)

        def work(connection: Connection) -> Sequence[RunRecord]:
            return [run_of(row) for row in connection.execute(statement)]

        return await self.database.transaction(work)

    async def mark_lost(self) -> int:
        """End every run still recorded as live; one that was waiting for its LLM has used an amount that nobody knows."""
        lost = {"state": RunState.LOST.value, "ended_at": self.clock.now(), "stop_reason": "run_lost", "error_code": "run_lost"}

        def work(connection: Connection) -> int:
            connection.execute(update(runs).where(runs.c.id.in_(WITH_OPEN_HOLDS)).values(cost_complete=False))
            connection.execute(delete(holds))
            return connection.execute(update(runs).where(runs.c.state.in_(_LIVE)).values(lost)).rowcount

        return await self.database.transaction(work)


def _path(connection: Connection, run_id: RunId, *, lock: bool = False) -> list[RunRecord]:
    return [run_of(row) for row in connection.execute(PATH_LOCKED if lock else PATH, {"run_id": run_id})]


def _known_path(connection: Connection, run_id: RunId, *, lock: bool = False) -> list[RunRecord]:
    path = _path(connection, run_id, lock=lock)
    if not path:
        raise RunNotFound(f"There is no run {run_id}.")
    return path


def _key(connection: Connection, key_id: KeyId) -> KeyRecord:
    row = connection.execute(_KEY, {"key_id": key_id}).one_or_none()
    if row is None:
        raise AuthenticationError("The key of this run is not known here.")
    return key_of(row)


def _charge(account: RunRecord, usage: TokenUsage, cost: int, *, cost_self: int, complete: bool, turns: int) -> dict[str, object]:
    return {
        "account_id": account.id,
        "more_turns": turns,
        "more_prompt": usage.prompt,
        "more_completion": usage.completion,
        "more_cached": usage.cached,
        "more_reasoning": usage.reasoning,
        "more_self": cost_self,
        "more_tree": cost,
        "complete": complete,
    }


def _summary(connection: Connection, path: Sequence[RunRecord]) -> RunSummary:
    run = path[-1]
    by_agent: list[AgentCost] = []
    tree_usage = run.usage
    if run.descendants:
        for row in connection.execute(DESCENDANTS_BY_AGENT, {"run_id": run.id}):
            by_agent.append(AgentCost(row.agent, row.runs, row.cost_self_micro_usd))
            tree_usage += TokenUsage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens)
    return RunSummary(run, tuple(by_agent), tree_usage, budget_left(path, _key(connection, run.key_id)))
