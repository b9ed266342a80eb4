"""Recorded runs as JSON: one run, or a tree of them. Instants are ISO 8601 in UTC, money is a decimal string of USD."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.model import PeerReport, RunId, RunRecord
from a2a_gateway.wire.usage import gateway_of, render_pending
from delegate_tool.protocol.limits import render_limits
from delegate_tool.protocol.money import format_usd

type RunView = dict[str, object]


def render_run(record: RunRecord, *, now: float, pending: bool | None = None) -> RunView:
    """Render one run.

    Args:
        now: seconds since the epoch, for the age of a run that is still live.
        pending: whether an unknown part of its cost may still become known; None if that was not looked up.
    """
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
        **_render_use(record, pending=pending),
        "descendants": record.descendants,
        "limits": render_limits(record.limits),
    }


def render_details(*, task: KeptText | None, workspace_dir: str | None, children: Sequence[RunRecord], now: float) -> RunView:
    """Render what only a look at one run shows: its task, where it worked, and the runs directly below it."""
    return {
        "task": None if task is None else {"text": task.text, "truncated": task.is_truncated},
        "workspace": workspace_dir,
        "children": [render_run(child, now=now) for child in children],
    }


def _render_use(record: RunRecord, *, pending: bool | None = None) -> RunView:
    tokens = record.usage
    return {
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
            **({} if pending is None else render_pending(record, pending=pending)),
        },
    }


def render_tree(
    records: Sequence[RunRecord], *, now: float, gateway_id: str, reports: Mapping[RunId, PeerReport | str] | None = None
) -> RunView:
    """Render a run with all its descendants nested under `children`.

    Args:
        records: the run itself, then its descendants, parents before children; siblings stay in this order.
        gateway_id: of this gateway, on which all but its peers' agents run.
        reports: what the peers report of the runs that they execute, or why there is no report.

    Raises:
        ValueError: there is no record, or a parent does not precede its child.
    """
    if not records:
        raise ValueError("a tree has at least its root")
    nodes: dict[str, RunView] = {}
    children: dict[str, list[RunView]] = {}
    for record in records:
        if nodes and record.parent_id not in nodes:
            raise ValueError(f"run {record.id} stands before its parent {record.parent_id}")
        children[record.id] = []
        node = {**render_run(record, now=now), "gateway": gateway_of(record.agent, gateway_id), "children": children[record.id]}
        nodes[record.id] = _join_report(node, record, reports[record.id]) if reports and record.id in reports else node
        if record.parent_id in children:
            children[record.parent_id].append(nodes[record.id])
    return nodes[records[0].id]


def _join_report(node: RunView, record: RunRecord, report: PeerReport | str) -> RunView:
    """Merge a run on a peer with the peer's report of it: one run, with a record on each gateway.

    The record of this gateway contains all tokens and money used on the peer. If the peer reports the runs below, only those of
    this run itself are rendered, so that the sum of `self` over the tree is still the cost of the root.
    """
    if isinstance(report, str):
        return {**node, "unreachable": report}
    self_micro_usd = max(0, record.cost_tree_micro_usd - report.cost_below_micro_usd)
    shown = replace(record, usage=report.usage, turns=report.turns, cost_self_micro_usd=self_micro_usd)
    return {**node, **_render_use(shown), "gateway": report.gateway or node["gateway"], "children": list(report.children)}


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(record: RunRecord, now: float) -> float:
    """Return for how long a run has been executed; 0 while it waits in the queue."""
    if record.started_at is None:
        return 0.0
    return max(0.0, (now if record.ended_at is None else record.ended_at) - record.started_at)
