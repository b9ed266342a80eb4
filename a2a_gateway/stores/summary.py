"""Sum up what a run has cost with all runs below it, and what its budgets have left. Functions of one transaction."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from sqlalchemy import Connection

from a2a_gateway.runs.admission import runs_left
from a2a_gateway.runs.budget import budget_left, unspent
from a2a_gateway.runs.events import AgentCost, Remainder, RunSummary
from a2a_gateway.runs.model import RunRecord, SpendCaps, TokenUsage
from a2a_gateway.stores.charges import ESCROW, PRESUMED, accounts_of, accounts_of_profile, require_key
from a2a_gateway.stores.tree import ANY_HOLD_BELOW, DESCENDANTS_BY_AGENT

_NO_CAPS: Final = SpendCaps()


def summarize(connection: Connection, path: Sequence[RunRecord], caps: SpendCaps, day: date) -> RunSummary:
    """Sum up the last run of a path. What it has left includes the `caps` of its profile."""
    run = path[-1]
    by_agent: list[AgentCost] = []
    tree_usage = run.usage
    if run.descendants:
        for row in connection.execute(DESCENDANTS_BY_AGENT, {"run_id": run.id}):
            by_agent.append(AgentCost(row.agent, row.runs, row.cost_self_micro_usd))
            tree_usage += TokenUsage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens)
    accounts = accounts_of(connection, path, require_key(connection, run.key_id), run.agent, _NO_CAPS, day)
    ancestors = path[:-1]
    above = unspent(account for account in accounts if not account.own)
    accounts += accounts_of_profile(connection, run.agent, caps, day)  # these do not bind the run above
    parent = Remainder(runs_left(ancestors), above) if ancestors else None
    presumed = {"run_id": run.id, "kind": ESCROW, "state": PRESUMED}
    pending = not run.cost_complete and (run.reserved_micro_usd > 0 or connection.scalar(ANY_HOLD_BELOW, presumed) is not None)
    return RunSummary(run, tuple(by_agent), tree_usage, budget_left(accounts), parent, pending)
