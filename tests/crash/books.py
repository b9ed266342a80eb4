"""The gateway's database, read behind its back while no gateway runs, or beside it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import NullPool, create_engine, text

LIVE = ("queued", "running")
type Payer = tuple[str, str]
"""A key's name and an agent's model id."""


@dataclass(frozen=True)
class Books:
    """All rows, as they stand at one moment."""

    keys: Sequence[Any]
    runs: Sequence[Any]
    holds: Sequence[Any]
    spend: Sequence[Any]
    claims: Sequence[Any]
    conversations: Sequence[Any]
    journals: Sequence[Any]

    @classmethod
    def read(cls, url: str) -> "Books":
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
        tables = ("keys", "runs", "holds", "spend", "claims", "conversations", "journals")
        with engine.connect() as connection:
            if engine.name == "postgresql":
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            else:
                connection.exec_driver_sql("BEGIN")
            # All tables of one moment.
            return cls(**{table: connection.execute(text(f"SELECT * FROM {table}")).mappings().all() for table in tables})

    def names(self) -> dict[str, str]:
        return {key["id"]: key["name"] for key in self.keys}

    def spent(self) -> Counter[Payer]:
        """Return what each key has spent on each agent."""
        names, spent = self.names(), Counter[Payer]()
        for row in self.spend:
            spent[names[row["key_id"]], row["agent"]] += row["cost_micro_usd"]
        return spent

    def uncertain(self) -> Counter[Payer]:
        """Count the charges of each payer that are estimates."""
        names, uncertain = self.names(), Counter[Payer]()
        for row in self.spend:
            uncertain[names[row["key_id"]], row["agent"]] += row["unknown_charges"]
        return uncertain

    def open_holds(self) -> Sequence[Any]:
        return [hold for hold in self.holds if hold["state"] == "open"]

    def holds_by_payer(self) -> tuple[Counter[Payer], Counter[Payer]]:
        """Return the money held for each payer's calls under way, and the number of these calls."""
        names, amounts, calls = self.names(), Counter[Payer](), Counter[Payer]()
        for hold in self.open_holds():
            payer = names[hold["key_id"]], hold["agent"]
            amounts[payer] += hold["reserved_micro_usd"]
            calls[payer] += 1
        return amounts, calls

    def presumed_charges(self) -> Counter[Payer]:
        """Return what a crash would charge each payer for its calls under way."""
        names, amounts = self.names(), Counter[Payer]()
        for hold in self.open_holds():
            amounts[names[hold["key_id"]], hold["agent"]] += hold["presumed_micro_usd"]
        return amounts

    def live(self) -> set[str]:
        return {run["id"] for run in self.runs if run["state"] in LIVE}

    def run(self, run_id: str) -> Any:
        (found,) = [run for run in self.runs if run["id"] == run_id]
        return found

    def tree_of(self, run_id: str) -> Sequence[Any]:
        """Return a run and all below it."""
        found, ids = [self.run(run_id)], {run_id}
        while below := [run for run in self.runs if run["parent_id"] in ids and run["id"] not in ids]:
            found += below
            ids |= {run["id"] for run in below}
        return found

    def has_executed(self, run_id: str) -> bool:
        """Return whether a run has made an LLM call."""
        run, calls = self.run(run_id), {hold["run_id"] for hold in self.holds}
        return bool(run["turns"] or run["descendants"] or run["cost_tree_micro_usd"] or run_id in calls)

    def disagreements(self) -> list[str]:
        """List every contradiction between the accounts; there must be none at any instant."""
        wrong = []
        for run in self.runs:
            tree = self.tree_of(run["id"])
            ids = {one["id"] for one in tree}
            expected = {
                "cost_tree_micro_usd": sum(one["cost_self_micro_usd"] for one in tree),
                "reserved_micro_usd": sum(hold["reserved_micro_usd"] for hold in self.open_holds() if hold["run_id"] in ids),
            }
            if not any("/" in one["agent"] for one in tree):  # what runs below a peer's run has its rows there
                expected["descendants"] = len(tree) - 1
            wrong += [f"{run['id']}: {name} {run[name]}, not {value}" for name, value in expected.items() if run[name] != value]
            if run["budget_micro_usd"] is not None and run["cost_tree_micro_usd"] > run["budget_micro_usd"]:
                wrong.append(f"{run['id']}: spent {run['cost_tree_micro_usd']} of {run['budget_micro_usd']}")
        by_run, names = Counter[Payer](), self.names()
        for run in self.runs:
            by_run[names[run["key_id"]], run["agent"]] += run["cost_self_micro_usd"]
        if +by_run != +self.spent():
            wrong.append(f"by the runs {by_run}, by the bill {self.spent()}")
        for key in self.keys:
            of_key = sum(cost for (name, _), cost in by_run.items() if name == key["name"])
            if key["spent_micro_usd"] != of_key:
                wrong.append(f"{key['name']}: {key['spent_micro_usd']}, not {of_key}")
        return wrong + self._wrong_journals()

    def _wrong_journals(self) -> list[str]:
        """List the runs without a journal, and those whose journal has events too early or never."""
        has_events = {journal["run_id"]: journal["events"] is not None for journal in self.journals}
        expected = {run["id"]: run["state"] not in (*LIVE, "lost") for run in self.runs}
        return [f"{run_id}: journal" for run_id in expected if has_events.get(run_id) is not expected[run_id]]
