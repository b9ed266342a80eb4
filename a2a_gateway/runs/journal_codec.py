"""The codec of the events in a journal: what a run published up to its end, as it can be published again. Pure.

Every event keeps its number and its time. Consecutive deltas of one kind are one item, with the text and the time of each. The
record and the sums of the run are not in it, because the ledger has them, and usually no answer, because its deltas are. If the
events are too long, the later ones are left out and counted (`omitted`), and the beginning of the answer is kept by itself.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from a2a_gateway.runs.events import (
    ContentDelta,
    EventsOmitted,
    OptionsIgnored,
    Outcome,
    ReasoningDelta,
    RunEvent,
    RunFinished,
    RunStarted,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from a2a_gateway.runs.kept_outcome import decode_outcome, encode_outcome
from a2a_gateway.runs.kept_text import KeptText, keep_text
from a2a_gateway.runs.model import RunRecord, TokenUsage

_VERSION: Final = 1
_ITEM_BYTES: Final = 80
"""About how much an event takes beside its texts."""
_DELTA_BYTES: Final = 8
"""About how much another delta of an item takes beside its text."""
_MS: Final = 1000
_DELTAS: Final[Mapping[str, type[ContentDelta] | type[ReasoningDelta]]] = {
    "content.delta": ContentDelta,
    "reasoning.delta": ReasoningDelta,
}


@dataclass(frozen=True, slots=True)
class KeptEnd:
    """How a run ended.

    Attributes:
        is_truncated: whether the text of the outcome is only its beginning.
    """

    outcome: Outcome
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class KeptEvents:
    """The events of an ended run.

    Attributes:
        happened_at: of each event, in seconds since the epoch.
        omitted: how many events between the last of these and the end are not kept.
    """

    events: tuple[RunEvent, ...]
    happened_at: tuple[float, ...]
    omitted: int
    end: KeptEnd


def encode_events(events: Sequence[RunEvent], happened_at: Sequence[float], outcome: Outcome, max_bytes: int) -> str:
    """Encode the events of a run that ends with an outcome, in about `max_bytes` at most."""
    taken = _take(events, happened_at, max_bytes)
    fields: dict[str, Any] = {"version": _VERSION, "outcome": encode_outcome(outcome)}
    if taken.count < len(events) or "".join(taken.content) != outcome.text:
        taken = _take(events, happened_at, max_bytes // 2)
        kept = keep_text(outcome.text, max_bytes // 2)
        fields |= {"text": kept.text, "truncated": kept.is_truncated}
    fields |= {"items": taken.items, "omitted": len(events) - taken.count}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def decode_events(text: str, record: RunRecord) -> KeptEvents | None:
    """Decode the events of a run; None if a later version has encoded them."""
    fields: Mapping[str, Any] = json.loads(text)
    if fields["version"] != _VERSION:
        return None
    events: list[RunEvent] = []
    happened_at: list[float] = []
    now_ms = 0
    for item in fields["items"]:
        for after_ms, event in zip(item["after_ms"], _decode(item, record), strict=True):
            now_ms += after_ms
            events.append(event)
            happened_at.append(now_ms / _MS)
    return KeptEvents(tuple(events), tuple(happened_at), fields["omitted"], _decode_end(fields))


def decode_end(text: str) -> KeptEnd | None:
    """Decode how a run ended, without its events; None if a later version has encoded them."""
    fields: Mapping[str, Any] = json.loads(text)
    return _decode_end(fields) if fields["version"] == _VERSION else None


def _decode_end(fields: Mapping[str, Any]) -> KeptEnd:
    answer = fields.get("text")
    if answer is None:
        answer = "".join(text for item in fields["items"] if item["type"] == "content.delta" for text in item["texts"])
    return KeptEnd(decode_outcome(fields["outcome"], answer), bool(fields.get("truncated")))


@dataclass(slots=True)
class _Taken:
    """The events that have been encoded so far.

    Attributes:
        content: the texts of the content deltas.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    count: int = 0
    size: int = 0
    now_ms: int = 0


def _take(events: Iterable[RunEvent], happened_at: Iterable[float], max_bytes: int) -> _Taken:
    """Encode the first events, as many as fit; the first one always does, because it is the beginning of the run."""
    taken = _Taken()
    for event, at in zip(events, happened_at, strict=True):
        kind, facts = _encode(event)
        is_more = kind in _DELTAS and bool(taken.items) and taken.items[-1]["type"] == kind
        size = (_DELTA_BYTES if is_more else _ITEM_BYTES) + sum(_bytes_of(fact) for fact in facts.values())
        if taken.count and taken.size + size > max_bytes:
            break
        if not is_more:
            taken.items.append({"type": kind, "after_ms": [], **({"texts": []} if kind in _DELTAS else facts)})
        if kind in _DELTAS:
            taken.items[-1]["texts"].append(facts["text"])
        if kind == "content.delta":
            taken.content.append(facts["text"])
        at_ms = round(at * _MS)
        taken.items[-1]["after_ms"].append(at_ms - taken.now_ms)
        taken.now_ms = at_ms
        taken.size += size
        taken.count += 1
    return taken


def _bytes_of(fact: object) -> int:
    return len(fact.encode("utf-8", "surrogatepass")) if isinstance(fact, str) else len(str(fact))


def _encode(event: RunEvent) -> tuple[str, dict[str, Any]]:
    match event:
        case RunStarted():
            return "run.started", {}
        case OptionsIgnored(names=names):
            return "options.ignored", {"names": list(names)}
        case ContentDelta(text=text):
            return "content.delta", {"text": text}
        case ReasoningDelta(text=text):
            return "reasoning.delta", {"text": text}
        case TurnFinished(turn=turn, usage=usage, cost_micro_usd=cost):
            tokens = [usage.prompt, usage.completion, usage.cached, usage.reasoning]
            return "turn.finished", {"turn": turn, "tokens": tokens, "cost_micro_usd": cost}
        case ToolStarted(tool=tool, call_id=call_id, arguments=arguments):
            facts = {"tool": tool, "call_id": call_id, "arguments": arguments.text, "truncated": arguments.is_truncated}
            return "tool.started", facts
        case ToolFinished(tool=tool, call_id=call_id, is_error=is_error, child_run_id=child_run_id):
            return "tool.finished", {"tool": tool, "call_id": call_id, "is_error": is_error, "child_run_id": child_run_id}
        case EventsOmitted() | RunFinished():
            raise ValueError(f"{type(event).__name__} is no event of a run that is about to end")
        case _:
            assert_never(event)


def _decode(item: Mapping[str, Any], record: RunRecord) -> list[RunEvent]:
    """Decode an item: the event, or the deltas, that it stands for."""
    match item["type"]:
        case "run.started":
            return [RunStarted(record)]
        case "options.ignored":
            return [OptionsIgnored(tuple(item["names"]))]
        case "turn.finished":
            return [TurnFinished(item["turn"], TokenUsage(*item["tokens"]), item["cost_micro_usd"])]
        case "tool.started":
            return [ToolStarted(item["tool"], item["call_id"], KeptText(item["arguments"], item["truncated"]))]
        case "tool.finished":
            return [ToolFinished(item["tool"], item["call_id"], item["is_error"], item["child_run_id"])]
        case kind:
            return [_DELTAS[kind](text) for text in item["texts"]]
