"""What is kept of a run's end, as text: enough to give the same answer, or the same failure, again.

Money and tokens are not in it: the ledger has them.
"""

import json
from typing import Final

from a2a_gateway.errors import AgentFailed, GatewayError, error_class
from a2a_gateway.runs.events import (
    Cancelled,
    ContentDelta,
    Failed,
    Finished,
    Limited,
    Outcome,
    ReasoningDelta,
    RunFinished,
    RunStarted,
)
from a2a_gateway.runs.live import LiveRun
from a2a_gateway.runs.model import Profile
from a2a_gateway.runs.ports import Clock
from delegate_tool.protocol.context import OnDisconnect

_VERSION: Final = 1


def encode_answer(outcome: Outcome, reasoning: str = "") -> str:
    """Render an outcome, with the reasoning that was told before it."""
    kept: dict[str, object] = {"version": _VERSION, "text": outcome.text, "reasoning": reasoning}
    match outcome:
        case Finished():
            kept["kind"] = "finished"
        case Limited(reason=reason, error=error):
            kept |= {"kind": "limited", "reason": reason, "error": _encode_error(error)}
        case Failed(error=error):
            kept |= {"kind": "failed", "error": _encode_error(error)}
        case Cancelled(why=why):
            kept |= {"kind": "cancelled", "why": why}
    return json.dumps(kept)


def decode_answer(text: str) -> tuple[Outcome, str]:
    """Read what `encode_answer` rendered: the outcome and the reasoning."""
    kept = json.loads(text)
    said, reasoning = str(kept["text"]), str(kept["reasoning"])
    match kept["kind"]:
        case "finished":
            return Finished(said), reasoning
        case "limited":
            return Limited(said, kept["reason"], _decode_error(kept["error"])), reasoning
        case "failed":
            return Failed(_decode_error(kept["error"]), said), reasoning
        case _:
            return Cancelled(said, str(kept.get("why", ""))), reasoning


def replay(profile: Profile, finished: RunFinished, reasoning: str, clock: Clock) -> LiveRun:
    """Rebuild an ended run from what is kept of it, for clients that read it again.

    A failure has no deltas before it: its text is in the error (`partial`), and a response that begins with the failure has an
    HTTP status and `x-should-retry`, also where the request asks for a stream.
    """
    ended = LiveRun(finished.summary.record, profile, OnDisconnect.CONTINUE, lambda _: None, clock)
    ended.publish(RunStarted(finished.summary.record, profile))
    if isinstance(finished.outcome, Finished | Limited):
        if reasoning:
            ended.publish(ReasoningDelta(reasoning))
        if finished.outcome.text:
            ended.publish(ContentDelta(finished.outcome.text))
    ended.publish(finished)
    return ended


def reasoning_of(live: LiveRun) -> str:
    """Join the reasoning that a run has told."""
    return "".join(event.text for event in live.events if isinstance(event, ReasoningDelta))


def _encode_error(error: GatewayError) -> dict[str, object]:
    return {
        "code": error.code,
        "retryable": error.retryable,
        "message": error.message,
        "param": error.param,
        "details": error.details,
    }


def _decode_error(kept: dict[str, object]) -> GatewayError:
    retryable = kept.get("retryable")
    kind = error_class(str(kept["code"]), retryable=None if retryable is None else bool(retryable)) or AgentFailed
    details = kept["details"]
    param = kept["param"]
    return kind(
        str(kept["message"]),
        param=param if isinstance(param, str) else None,
        details=details if isinstance(details, dict) else None,
    )
