"""Response headers of an admitted run: those known when it starts, and those known when it has ended.

Values are visible ASCII and bounded, whatever they were made of: a header must never break the response that carries it.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from a2a_gateway.runs.events import RunSummary
from a2a_gateway.runs.model import RunRecord
from delegate_tool.protocol.context import CONVERSATION_HEADER, PROTOCOL_VERSION
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
    headers = {
        "X-Request-ID": request_id,
        "X-A2A-Protocol": PROTOCOL_VERSION,
        "X-A2A-Run-ID": record.id,
        "X-A2A-Tree-ID": record.tree_id,
        "X-A2A-Depth": str(record.depth),
        "X-A2A-Max-Depth": str(record.limits.max_depth),
        "X-A2A-Timeout": f"{max(0.0, record.deadline_at - now):.3f}",
        CONVERSATION_HEADER: record.conversation_id,
    }
    if is_replay:
        headers["X-A2A-Idempotent-Replay"] = "true"
    headers |= ignored_headers(ignored)
    return {name: _visible(value) for name, value in headers.items()}


def ignored_headers(names: Iterable[str]) -> dict[str, str]:
    """Render the names of request fields without effect, as far as they fit; no header if there are no names."""
    joined = _join_names(names)
    return {"X-A2A-Ignored": joined} if joined else {}


def final_headers(summary: RunSummary) -> dict[str, str]:
    """Render what is known once a run has ended, whatever its outcome; to be added to `start_headers`."""
    record = summary.record
    cost = format_usd(record.cost_tree_micro_usd)
    headers = {
        "X-A2A-Cost-USD": cost,
        "X-A2A-Cost-Self-USD": format_usd(record.cost_self_micro_usd),
        "X-A2A-Cost-Complete": "true" if record.cost_complete else "false",
    }
    if record.cost_complete:  # readers of this alias take it for the whole cost, and an unknown cost for 0
        headers["x-litellm-response-cost"] = cost
    if summary.remaining_micro_usd is not None:
        headers["X-A2A-Budget-Remaining-USD"] = format_usd(summary.remaining_micro_usd)
    if record.stop_reason:
        headers["X-A2A-Stop-Reason"] = record.stop_reason
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
