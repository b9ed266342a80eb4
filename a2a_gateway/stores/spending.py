"""Report spending by key, agent or day, from the sums that the ledger keeps."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from sqlalchemy import BigInteger, Connection, case, cast, func, select

from a2a_gateway.stores.database import Database
from a2a_gateway.stores.schema import keys, spend


class SpendBy(StrEnum):
    """How spending is grouped. An agent's line has its own LLM calls, not those of the agents that it calls."""

    KEY = "key"
    AGENT = "agent"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class SpendLine:
    """One line of the report.

    Attributes:
        name: the name of the key or agent, or the day (ISO 8601, UTC).
        complete: False if the price of a call is unknown or only estimated.
    """

    name: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro_usd: int
    complete: bool


_NAMES: Final = {SpendBy.KEY: keys.c.name, SpendBy.AGENT: spend.c.agent, SpendBy.DAY: spend.c.day}


@dataclass(frozen=True, slots=True)
class SqlSpending:
    """The spending recorded in a database."""

    database: Database

    async def lines(self, by: SpendBy, *, since: date | None = None, until: date | None = None) -> list[SpendLine]:
        """Sum up what was spent from one day to another, both included. Days are in order, else the highest cost comes first."""
        name = _NAMES[by]
        sums = [
            cast(func.sum(spend.c[column]), BigInteger)  # PostgreSQL's sum of integers is a decimal
            for column in ("calls", "prompt_tokens", "completion_tokens", "cost_micro_usd")
        ]
        statement = (
            select(name, *sums, func.sum(case((spend.c.unknown_charges > 0, 1), else_=0)))
            .join(keys, keys.c.id == spend.c.key_id)
            .group_by(name)
            .order_by(name if by is SpendBy.DAY else sums[-1].desc(), name)
        )
        if since is not None:
            statement = statement.where(spend.c.day >= since)
        if until is not None:
            statement = statement.where(spend.c.day <= until)

        def work(connection: Connection) -> list[SpendLine]:
            return [SpendLine(str(row[0]), row[1], row[2], row[3], row[4], not row[5]) for row in connection.execute(statement)]

        return await self.database.transaction(work)
