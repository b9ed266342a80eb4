"""Render the events of a run as Server-Sent Events: a JSON object each, with a number from which a reader can resume.

This is not OpenAI's format. It is for clients that watch a run, or return to one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, assert_never

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import (
    ContentDelta,
    EventsOmitted,
    OptionsIgnored,
    ReasoningDelta,
    RunEvent,
    RunFinished,
    RunStarted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.model import RunRecord
from a2a_gateway.wire.errors import error_object
from a2a_gateway.wire.json_bytes import encode_json
from a2a_gateway.wire.outcome import render_outcome
from a2a_gateway.wire.usage import render_usage
from delegate_tool.protocol.money import format_usd

HEARTBEAT: Final = b": still there\n\n"


def render_run_event(number: int, event: RunEvent, record: RunRecord, *, at: float, gateway_id: str) -> bytes:
    """Render one event.

    Args:
        number: its position in the run, from 0; the `id` that `Last-Event-ID` names.
        at: when it happened (seconds since the epoch).
    """
    kind, facts = _facts(event, gateway_id)
    body = {
        "id": number,
        "type": kind,
        "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "run_id": record.id,
        "tree_id": record.tree_id,
        "depth": record.depth,
        **facts,
    }
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), encode_json(body))


def render_end(finished: RunFinished) -> dict[str, object]:
    """Render how a run ended: the answer, or the error in its place."""
    truncated = {"truncated": True} if finished.is_truncated else {}
    answer = render_outcome(finished)
    if isinstance(answer, GatewayError):
        return {"error": error_object(answer), **truncated}
    return {"answer": {"text": answer.text, "finish_reason": answer.finish_reason}, **truncated}


def _facts(event: RunEvent, gateway_id: str) -> tuple[str, Mapping[str, object]]:
    match event:
        case RunStarted(record=record):
            return "run.started", {"agent": record.agent, "parent_id": record.parent_id}
        case OptionsIgnored(names=names):
            return "options.ignored", {"fields": list(names)}
        case ContentDelta(text=text):
            return "content.delta", {"text": text}
        case ReasoningDelta(text=text):
            return "reasoning.delta", {"text": text}
        case TurnFinished(turn=turn, usage=usage, cost_micro_usd=cost):
            tokens = {"prompt": usage.prompt, "completion": usage.completion}
            return "turn.finished", {"turn": turn, "tokens": tokens, "cost": None if cost is None else format_usd(cost)}
        case ToolStarted(tool=tool, call_id=call_id, arguments=arguments):
            facts = {"tool": tool, "call_id": call_id, "arguments": arguments.text, "truncated": arguments.is_truncated}
            return "tool.started", facts
        case ToolFinished(tool=tool, call_id=call_id, is_error=is_error, child_run_id=child_run_id):
            return "tool.finished", {"tool": tool, "call_id": call_id, "is_error": is_error, "child_run_id": child_run_id}
        case EventsOmitted(count=count):
            return "events.omitted", {"count": count}
        case RunFinished(summary=summary):
            ended = {"state": summary.record.state.value, "usage": render_usage(summary, gateway_id=gateway_id)}
            return "run.finished", {**ended, **render_end(event)}
        case _:
            assert_never(event)
