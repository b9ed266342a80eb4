"""Project a run's outcome onto the wire: an answer or an error, the same for streamed and whole responses."""

import copy
from dataclasses import dataclass
from typing import Literal, assert_never

from a2a_gateway.errors import GatewayError, RunCancelled
from a2a_gateway.runs.events import Cancelled, Failed, Finished, Limited, RunFinished, RunSummary
from a2a_gateway.wire.usage import render_parent
from delegate_tool.protocol.money import format_usd

type FinishReason = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """The final answer of a run, with OpenAI's word for how it ended."""

    text: str
    finish_reason: FinishReason


def render_outcome(finished: RunFinished) -> WireAnswer | GatewayError:
    """Return the answer of a run (HTTP 200), or the error to send, with the facts of the run in its details.

    A run that reached a limit has an answer if there is text. A failed run never has one; its text is sent in `details.partial`.
    """
    match finished.outcome:
        case Finished(text=text):
            return WireAnswer(text, "stop")
        case Limited(text=text, reason=reason) if text.strip():
            return WireAnswer(text, "content_filter" if reason == "content_filter" else "length")
        case Limited(error=error):
            return _error(error, "", finished.summary)
        case Failed(error=error, text=text):
            return _error(error, text, finished.summary)
        case Cancelled(text=text, why=why):
            return _error(RunCancelled(why or "The run was cancelled before it had finished."), text, finished.summary)
        case _:
            assert_never(finished.outcome)


def _error(error: GatewayError, text: str, summary: RunSummary) -> GatewayError:
    partial = {"partial": text} if text else {}
    return copy.copy(error).with_details(**_facts(summary), **partial)  # a copy: the outcome may be rendered again


def _facts(summary: RunSummary) -> dict[str, object]:
    record, remaining = summary.record, summary.remaining_micro_usd
    facts: dict[str, object] = {
        "run_id": record.id,
        "tree_id": record.tree_id,
        "depth": record.depth,
        "max_depth": record.limits.max_depth,
        "cost_usd": format_usd(record.cost_tree_micro_usd),
        "cost_complete": record.cost_complete,
    }
    if remaining is not None:
        facts["budget_remaining_usd"] = format_usd(remaining)
    return {**facts, **render_parent(summary)}
