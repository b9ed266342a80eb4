"""Money in the database: holds, charges, and what a key or a profile has spent by day. Functions of one transaction.

The money of one call goes through a hold. A hold is `open` while its call is under way. It is `presumed` while an estimate is
charged because the final cost is not known yet:

| act | hold | reserved amount of the run and its ancestors | cost | number of unknown charges |
|---|---|---|---|---|
| reserve, escrow | inserted as open | + reserved | | |
| release | removed | − reserved | | |
| settle, cost final | removed | − reserved | + cost | + 1 if the cost is unknown or incomplete |
| settle, cost not final | becomes presumed | − reserved | + cost so far | + 1 |
| presume: a crash, or overdue | becomes presumed | − reserved | + estimate | + 1 |
| settle a presumed hold, cost final | removed | | + cost − estimate | − 1 if the cost is now known and complete |

Both a hold and a charge count on their run and on every run above it. So at any moment the sum of `cost_self` over a tree is its
root's `cost_tree`, and a run's `reserved` is the sum of the open holds of it and of the runs below it.

Lock order: the runs of a tree from the root down, then the key, then the profile. So two transactions cannot deadlock.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from a2a_gateway.errors import AuthenticationError
from a2a_gateway.runs.budget import Account, Spent, accounts_of_caps, accounts_of_path, key_owner
from a2a_gateway.runs.model import KeyId, KeyRecord, RunId, RunRecord, SpendCaps, TokenUsage
from a2a_gateway.runs.ports import Charge, Clock, Hold
from a2a_gateway.stores.rows import AnyRow, key_of
from a2a_gateway.stores.schema import holds, keys, runs, spend

CALL: Final = "call"
ESCROW: Final = "escrow"
OPEN: Final = "open"
PRESUMED: Final = "presumed"

_INSERT_HOLD: Final = insert(holds)
_REMOVE_HOLD: Final = delete(holds).where(holds.c.id == bindparam("hold_id")).returning(holds)
_NOTE_PRESUMED: Final = (
    update(holds)
    .where(holds.c.id == bindparam("hold_id"), holds.c.state == OPEN)
    # An estimate may be too high; the reserved amount is the most that the call may cost.
    .values(
        presumed_micro_usd=case(
            (holds.c.reserved_micro_usd < bindparam("used"), holds.c.reserved_micro_usd), else_=bindparam("used")
        )
    )
)
_ADD_RESERVED: Final = (
    update(runs)
    .where(runs.c.id == bindparam("account_id"))
    .values(reserved_micro_usd=runs.c.reserved_micro_usd + bindparam("more_reserved"))
)
_MARK_LAST_CALL: Final = (
    update(runs).where(runs.c.id == bindparam("account_id")).values(had_last_call=bindparam("had_it", type_=Boolean))
)
_descendants: Final = runs.c.descendants + bindparam("more_descendants")
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
        reserved_micro_usd=runs.c.reserved_micro_usd + bindparam("more_reserved"),
        unknown_charges=runs.c.unknown_charges + bindparam("more_unknown"),
        # The number of runs that a peer reports must not exceed what it was granted.
        descendants=case((_descendants < runs.c.max_runs, _descendants), else_=runs.c.max_runs),
    )
)
_CHARGE_KEY: Final = (
    update(keys)
    .where(keys.c.id == bindparam("account_id"))
    .values(spent_micro_usd=keys.c.spent_micro_usd + bindparam("more_spent"))
)
_spend_key: Final[dict[Column[Any], BindParameter[Any]]] = {
    spend.c.day: bindparam("on_day"),
    spend.c.key_id: bindparam("of_key"),
    spend.c.agent: bindparam("of_agent"),
}
_spend_amounts: Final[dict[Column[Any], BindParameter[Any]]] = {
    spend.c.calls: bindparam("more_calls"),
    spend.c.prompt_tokens: bindparam("more_prompt"),
    spend.c.completion_tokens: bindparam("more_completion"),
    spend.c.cost_micro_usd: bindparam("more_cost"),
    spend.c.unknown_charges: bindparam("more_unknown"),
}
_spend_sums: Final = {column.name: column + amount for column, amount in _spend_amounts.items()}
_ADD_SPEND: Final = update(spend).where(*(column == value for column, value in _spend_key.items())).values(_spend_sums)
_INSERT_SPEND: Final = {
    dialect: statement.values({**_spend_key, **_spend_amounts}).on_conflict_do_update(
        index_elements=list(_spend_key), set_=_spend_sums
    )
    for dialect, statement in (("sqlite", sqlite.insert(spend)), ("postgresql", postgresql.insert(spend)))
}
_KEY: Final = select(keys).where(keys.c.id == bindparam("key_id"))
_LOCK_KEY: Final = select(keys.c.id).where(keys.c.id == bindparam("key_id")).with_for_update()
_LOCK_PROFILE: Final = text("SELECT pg_advisory_xact_lock(hashtext(:agent))")


def today(clock: Clock) -> date:
    """Return the day in UTC by the wall clock, because people look for their spending by the calendar."""
    return datetime.fromtimestamp(clock.wall(), UTC).date()


def require_key(connection: Connection, key_id: KeyId) -> KeyRecord:
    """Read a key that must exist.

    Raises:
        AuthenticationError: it does not exist.
    """
    row = connection.execute(_KEY, {"key_id": key_id}).one_or_none()
    if row is None:
        raise AuthenticationError("The key of this run is not known here.")
    return key_of(row)


def accounts_of(
    connection: Connection,
    path: Sequence[RunRecord],
    key: KeyRecord,
    agent: str,
    caps: SpendCaps,
    day: date,
    *,
    below: bool = False,
) -> list[Account]:
    """Read every budget that a run draws on: those of its path, of its key, and its profile's `caps`. Lock the last two.

    Args:
        below: the run is not in the path yet.
    """
    accounts = accounts_of_path(path, below=below)
    if key.caps != SpendCaps():
        connection.execute(_LOCK_KEY, {"key_id": key.id})
        spent = _spent(connection, spend.c.key_id, holds.c.key_id, key.id, key.caps, day)
        accounts += accounts_of_caps(key_owner(key), key.caps, spent)
    return accounts + accounts_of_profile(connection, agent, caps, day)


def accounts_of_profile(connection: Connection, agent: str, caps: SpendCaps, day: date) -> list[Account]:
    """Read and lock the budgets that all runs of an agent share."""
    if caps == SpendCaps():
        return []
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_PROFILE, {"agent": agent})
    return accounts_of_caps(agent, caps, _spent(connection, spend.c.agent, holds.c.agent, agent, caps, day))


def _spent(connection: Connection, spender: Column[str], holder: Column[str], owner: str, caps: SpendCaps, day: date) -> Spent:
    """Sum up what the caps need, in one statement.

    Between two statements PostgreSQL lets another transaction settle a call, which would then be in neither sum.
    """
    month = day.replace(day=1)
    held = select(_sum(holds.c.reserved_micro_usd)).where(holder == owner, holds.c.state == OPEN)
    spent = select(
        _sum(spend.c.cost_micro_usd),
        _sum(case((spend.c.day >= day, spend.c.cost_micro_usd))),
        _sum(case((spend.c.day >= month, spend.c.cost_micro_usd))),
        held.scalar_subquery(),
    ).where(spender == owner)
    if caps.total_micro_usd is None:
        spent = spent.where(spend.c.day >= (day if caps.month_micro_usd is None else month))
    return Spent(*connection.execute(spent).one())


def _sum(amount: ColumnElement[int]) -> ColumnElement[int]:
    # PostgreSQL's sum of integers is a decimal.
    return cast(func.coalesce(func.sum(amount), 0), BigInteger)


def place_hold(connection: Connection, hold: Hold, path: Sequence[RunRecord], *, kind: str, day: date, now: float) -> None:
    """Insert a hold, and reserve its money on every run of its path."""
    run = path[-1]
    connection.execute(
        _INSERT_HOLD,
        {
            "id": hold.id,
            "run_id": run.id,
            "key_id": run.key_id,
            "agent": run.agent,
            "day": day,
            "kind": kind,
            "state": OPEN,
            "reserved_micro_usd": hold.reserved_micro_usd,
            "presumed_micro_usd": hold.presumed_micro_usd,
            "created_at": now,
        },
    )
    if hold.reserved_micro_usd:
        connection.execute(_ADD_RESERVED, [{"account_id": one.id, "more_reserved": hold.reserved_micro_usd} for one in path])
    if hold.last:
        connection.execute(_MARK_LAST_CALL, {"account_id": run.id, "had_it": True})


def remove_hold(connection: Connection, hold_id: str) -> AnyRow | None:
    """Remove a hold and return its row; None if it was removed before."""
    return connection.execute(_REMOVE_HOLD, {"hold_id": hold_id}).one_or_none()


def release_hold(connection: Connection, hold: AnyRow, path: Sequence[RunRecord]) -> None:
    """Release the money of a removed hold, and charge nothing."""
    if hold.reserved_micro_usd:
        connection.execute(_ADD_RESERVED, [{"account_id": one.id, "more_reserved": -hold.reserved_micro_usd} for one in path])


def book(connection: Connection, hold: AnyRow, path: Sequence[RunRecord], charge: Charge) -> None:
    """Charge what the call of a removed hold used. For a presumed hold this replaces the estimate that was charged."""
    presumed = hold.state == PRESUMED
    cost = (charge.cost_micro_usd or 0) - (hold.reserved_micro_usd if presumed else 0)
    is_known = charge.complete and charge.final and (charge.cost_micro_usd is not None or charge.usage == TokenUsage())
    unknown = (0 if is_known else 1) - (1 if presumed else 0)
    released = 0 if presumed else -hold.reserved_micro_usd
    *ancestors, run = path
    own = _charge(run, charge.usage, cost, released, unknown, cost_self=cost, turns=charge.turns, runs=charge.runs)
    above = [
        _charge(ancestor, TokenUsage(), cost, released, unknown, cost_self=0, turns=0, runs=charge.runs) for ancestor in ancestors
    ]
    connection.execute(_CHARGE_RUN, [*above, own])
    if cost:
        connection.execute(_CHARGE_KEY, {"account_id": run.key_id, "more_spent": cost})
    _record_spend(connection, hold, charge.usage, cost, unknown, calls=0 if presumed else 1)
    if not charge.final:
        charged = charge.cost_micro_usd or 0
        waiting = {"state": PRESUMED, "reserved_micro_usd": charged, "presumed_micro_usd": charged}
        connection.execute(_INSERT_HOLD, {**hold._mapping, **waiting})


def allow_last_call(connection: Connection, run_id: RunId) -> None:
    """Allow a run another last call, because the one that it had was refused."""
    connection.execute(_MARK_LAST_CALL, {"account_id": run_id, "had_it": False})


def charge_estimate(connection: Connection, hold: AnyRow, path: Sequence[RunRecord], cost_micro_usd: int) -> None:
    """Charge a call that will not be settled with an estimate, and keep its hold, as presumed, until the final cost is known."""
    book(connection, hold, path, Charge(cost_micro_usd=cost_micro_usd, complete=False, turns=0, final=False))


def note_presumed(connection: Connection, used_micro_usd: Mapping[str, int]) -> None:
    """Record what a crash would charge for open holds. The order of their ids is the lock order for several holds."""
    values = [{"hold_id": hold_id, "used": used_micro_usd[hold_id]} for hold_id in sorted(used_micro_usd)]
    if values:
        connection.execute(_NOTE_PRESUMED, values)


def _charge(
    account: RunRecord, usage: TokenUsage, cost: int, released: int, unknown: int, *, cost_self: int, turns: int, runs: int
) -> dict[str, object]:
    return {
        "account_id": account.id,
        "more_turns": turns,
        "more_prompt": usage.prompt,
        "more_completion": usage.completion,
        "more_cached": usage.cached,
        "more_reasoning": usage.reasoning,
        "more_self": cost_self,
        "more_tree": cost,
        "more_reserved": released,
        "more_unknown": unknown,
        "more_descendants": runs,
    }


def _record_spend(connection: Connection, hold: AnyRow, usage: TokenUsage, cost: int, unknown: int, *, calls: int) -> None:
    """Add to what the key spent on the agent, on the day on which the call began."""
    row = {"on_day": hold.day, "of_key": hold.key_id, "of_agent": hold.agent}
    amounts = {
        "more_calls": calls,
        "more_prompt": usage.prompt,
        "more_completion": usage.completion,
        "more_cost": cost,
        "more_unknown": unknown,
    }
    if not connection.execute(_ADD_SPEND, {**row, **amounts}).rowcount:
        # With PostgreSQL another transaction may insert the row at the same time. Then this statement updates it.
        connection.execute(_INSERT_SPEND[connection.dialect.name], {**row, **amounts})
