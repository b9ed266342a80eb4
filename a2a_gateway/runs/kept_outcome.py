"""The codec of a kept outcome: what the ledger keeps of a run's end, so that it can be sent again. Pure.

What is kept is how the run ended, and its output as items in the order in which they were published. So each wire can render it:
a chat completion joins the messages, a wire that knows items sends them one by one. Money and tokens are not in it, because the
ledger has them.

    version   output
    1         `text` and `reasoning`, each as one string; still decoded
    2         `output`: a list of items, `{"type": "message" | "reasoning", "text": ...}`
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

from a2a_gateway.errors import AgentFailed, GatewayError, error_class
from a2a_gateway.runs.events import Cancelled, ContentDelta, Failed, Finished, Limited, Outcome, ReasoningDelta, RunEvent

_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class MessageItem:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningItem:
    """Text of the reasoning, or of narration that was requested as reasoning."""

    text: str


type OutputItem = MessageItem | ReasoningItem


@dataclass(frozen=True, slots=True)
class KeptOutcome:
    """How a run ended, and what it published; the messages of `output`, joined, are the text of the outcome."""

    outcome: Outcome
    output: tuple[OutputItem, ...]


def keep_outcome(outcome: Outcome, events: Iterable[RunEvent]) -> KeptOutcome:
    """Collect what is kept of a run from its outcome and its events; consecutive deltas of one kind become one item."""
    kinds: list[type[MessageItem] | type[ReasoningItem]] = []
    texts: list[list[str]] = []
    for event in events:
        match event:
            case ContentDelta(text=text):
                kind: type[MessageItem] | type[ReasoningItem] = MessageItem
            case ReasoningDelta(text=text):
                kind = ReasoningItem
            case _:
                continue
        if not kinds or kinds[-1] is not kind:
            kinds.append(kind)
            texts.append([])
        texts[-1].append(text)
    output = tuple(kind("".join(pieces)) for kind, pieces in zip(kinds, texts, strict=True))
    if _text_of(output) != outcome.text:  # such as the outcome of a failure, whose text was not published
        output = (*(item for item in output if isinstance(item, ReasoningItem)), *_message(outcome.text))
    return KeptOutcome(outcome, output)


def encode_kept_outcome(kept: KeptOutcome) -> str:
    """Render a kept outcome as JSON."""
    output = [_encode_item(item) for item in kept.output]
    return json.dumps({"version": _VERSION, "output": output, **encode_outcome(kept.outcome)})


def encode_outcome(outcome: Outcome) -> dict[str, object]:
    """Return the JSON members of an outcome, without its text."""
    match outcome:
        case Finished():
            return {"kind": "finished"}
        case Limited(reason=reason, error=error):
            return {"kind": "limited", "reason": reason, "error": _encode_error(error)}
        case Failed(error=error):
            return {"kind": "failed", "error": _encode_error(error)}
        case Cancelled(why=why):
            return {"kind": "cancelled", "why": why}
        case _:
            assert_never(outcome)


def decode_kept_outcome(text: str) -> KeptOutcome | None:
    """Read what `encode_kept_outcome` rendered, in this version or an earlier one; None if a later version wrote it."""
    fields: Mapping[str, Any] = json.loads(text)
    match fields["version"]:
        case 1:
            reasoning = str(fields["reasoning"])
            output = (*((ReasoningItem(reasoning),) if reasoning else ()), *_message(str(fields["text"])))
        case 2:
            output = tuple(_decode_item(item) for item in fields["output"])
        case _:
            return None
    return KeptOutcome(decode_outcome(fields, _text_of(output)), output)


def decode_outcome(fields: Mapping[str, Any], text: str) -> Outcome:
    """Read the members that `encode_outcome` returned; the text is that of the outcome."""
    match fields["kind"]:
        case "finished":
            return Finished(text)
        case "limited":
            return Limited(text, fields["reason"], _decode_error(fields["error"]))
        case "failed":
            return Failed(_decode_error(fields["error"]), text)
        case _:
            return Cancelled(text, str(fields.get("why", "")))


def _text_of(output: Sequence[OutputItem]) -> str:
    return "".join(item.text for item in output if isinstance(item, MessageItem))


def _message(text: str) -> tuple[OutputItem, ...]:
    return (MessageItem(text),) if text else ()


def _encode_item(item: OutputItem) -> dict[str, object]:
    return {"type": "message" if isinstance(item, MessageItem) else "reasoning", "text": item.text}


def _decode_item(fields: Mapping[str, Any]) -> OutputItem:
    kind = MessageItem if fields["type"] == "message" else ReasoningItem
    return kind(str(fields["text"]))


def _encode_error(error: GatewayError) -> dict[str, object]:
    return {
        "code": error.code,
        "retryable": error.retryable,
        "message": error.message,
        "param": error.param,
        "details": error.details,
    }


def _decode_error(fields: Mapping[str, Any]) -> GatewayError:
    retryable = fields.get("retryable")
    kind = error_class(str(fields["code"]), retryable=None if retryable is None else bool(retryable)) or AgentFailed
    details = fields["details"]
    param = fields["param"]
    return kind(
        str(fields["message"]),
        param=param if isinstance(param, str) else None,
        details=details if isinstance(details, dict) else None,
    )
