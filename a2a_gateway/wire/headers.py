"""Response headers of an admitted run: those known when it starts, and those known when it has ended.

Values are visible ASCII and bounded, whatever they were made of: a header must never break the response that carries it.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from a2a_gateway.runs.events import RunSummary
from a2a_gateway.runs.model import RunRecord
from delegate_tool.protocol.fields import PROTOCOL_VERSION, Header
from delegate_tool.protocol.money import format_usd

_INVISIBLE: Final = re.compile(r"[^\x20-\x7e]")
_VALUE_CHARS: Final = 1024
_IGNORED_CHARS: Final = _VALUE_CHARS - len(", ...")
_NAME_CHARS: Final = 64  # percent-encoded at most 12 times as long, so the first always fits


def start_headers(
    record: RunRecord, *, request_id: str, now: float, ignored: Iterable[str] = (), is_replay: bool = False
) -> dict[str, str]:
    """Render what is known when a run starts.

    Args:
        now: seconds since the epoch.
        ignored: names of request fields without effect.
        is_replay: another request has begun the run.
    """
    headers: dict[str, str] = {
        Header.REQUEST_ID: request_id,
        Header.PROTOCOL: PROTOCOL_VERSION,
        Header.RUN_ID: record.id,
        Header.TREE_ID: record.tree_id,
        Header.DEPTH: str(record.depth),
        Header.MAX_DEPTH: str(record.limits.max_depth),
        Header.TIMEOUT: f"{max(0.0, record.deadline_at - now):.3f}",
        Header.CONVERSATION_ID: record.conversation_id,
    }
    if is_replay:
        headers[Header.IDEMPOTENT_REPLAY] = "true"
    headers |= ignored_headers(ignored)
    return {name: _visible(value) for name, value in headers.items()}


def ignored_headers(names: Iterable[str]) -> dict[str, str]:
    """Render the names of request fields without effect, as far as they fit; no header if there are no names."""
    joined = _join_names(names)
    return {Header.IGNORED: joined} if joined else {}


def final_headers(summary: RunSummary) -> dict[str, str]:
    """Render what is known once a run has ended, whatever its outcome; to be added to `start_headers`."""
    record = summary.record
    cost = format_usd(record.cost_tree_micro_usd)
    headers: dict[str, str] = {
        Header.COST_USD: cost,
        Header.COST_SELF_USD: format_usd(record.cost_self_micro_usd),
        Header.COST_COMPLETE: "true" if record.cost_complete else "false",
    }
    if record.cost_complete:  # readers of this alias take it for the whole cost, and an unknown cost for 0
        headers[Header.LITELLM_COST] = cost
    if summary.remaining_micro_usd is not None:
        headers[Header.BUDGET_REMAINING_USD] = format_usd(summary.remaining_micro_usd)
    if record.stop_reason:
        headers[Header.STOP_REASON] = record.stop_reason
    return {name: _visible(value) for name, value in headers.items()}


def _visible(value: str) -> str:
    return _INVISIBLE.sub("?", value[:_VALUE_CHARS])


def _join_names(names: Iterable[str]) -> str:
    """Join field names as far as they fit; the caller chose them, so what a list or a header cannot hold is percent-encoded."""
    joined = ""
    for name in names:
        separator = ", " if joined else ""
        longer = joined + separator + quote(name[:_NAME_CHARS], safe="*", errors="replace")
        if len(longer) > _IGNORED_CHARS:
            return f"{joined}, ..."
        joined = longer
    return joined
