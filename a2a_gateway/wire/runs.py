"""Recorded runs as JSON: one run, or a tree of them. Instants are ISO 8601 in UTC, money is a decimal string of USD."""

from collections.abc import Sequence
from datetime import UTC, datetime

from a2a_gateway.runs.model import Limits, RunRecord
from delegate_tool.money import format_usd

type RunNode = dict[str, object]


def render_run(record: RunRecord, *, now: float) -> RunNode:
    """Render one run. `now` is seconds since the epoch, for the age of a run that is still live."""
    tokens = record.usage
    return {
        "id": record.id,
        "object": "run",
        "tree_id": record.tree_id,
        "parent_id": record.parent_id,
        "agent": record.agent,
        "depth": record.depth,
        "state": record.state.value,
        "stop_reason": record.stop_reason,
        "error_code": record.error_code,
        "remote_run_id": record.remote_run_id,
        "origin": record.origin,
        "conversation_id": record.conversation_id,
        "created_at": _instant(record.created_at),
        "started_at": _instant(record.started_at),
        "ended_at": _instant(record.ended_at),
        "deadline_at": _instant(record.deadline_at),
        "seconds": round(_seconds(record, now), 3),
        "turns": record.turns,
        "tokens": {
            "prompt": tokens.prompt,
            "completion": tokens.completion,
            "cached": tokens.cached,
            "reasoning": tokens.reasoning,
        },
        "cost": {
            "self": format_usd(record.cost_self_micro_usd),
            "tree": format_usd(record.cost_tree_micro_usd),
            "reserved": format_usd(record.reserved_micro_usd),
            "currency": "USD",
            "complete": record.cost_complete,
        },
        "descendants": record.descendants,
        "limits": _render_limits(record.limits),
    }


def render_tree(records: Sequence[RunRecord], *, now: float) -> RunNode:
    """Render a run with all its descendants nested under `children`.

    Args:
        records: the run itself, then its descendants, parents before children; siblings stay in this order.

    Raises:
        ValueError: there is no record, or one whose parent does not stand before it.
    """
    if not records:
        raise ValueError("a tree has at least its root")
    root, *descendants = records
    children: dict[str, list[RunNode]] = {root.id: []}
    tree: RunNode = {**render_run(root, now=now), "children": children[root.id]}
    for record in descendants:
        if record.parent_id not in children:
            raise ValueError(f"run {record.id} stands before its parent {record.parent_id}")
        children[record.id] = []
        children[record.parent_id].append({**render_run(record, now=now), "children": children[record.id]})
    return tree


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(record: RunRecord, now: float) -> float:
    """How long it has been executed; 0 while it waits in the queue."""
    if record.started_at is None:
        return 0.0
    return max(0.0, (now if record.ended_at is None else record.ended_at) - record.started_at)


def _render_limits(limits: Limits) -> dict[str, object]:
    return {
        "max_depth": limits.max_depth,
        "max_breadth": limits.max_breadth,
        "max_runs": limits.max_runs,
        "timeout_s": limits.timeout_s,
        "max_turns": limits.max_turns,
        "budget_usd": None if limits.budget_micro_usd is None else format_usd(limits.budget_micro_usd),
        "allowed_agents": None if limits.allowed_agents is None else sorted(limits.allowed_agents),
    }
