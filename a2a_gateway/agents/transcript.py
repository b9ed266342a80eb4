"""Encode and decode the stored form of a conversation between two runs: events as JSON lines.

The first line contains the caller's system text, each further line one event that the LLM sees. Calls are stored without their
executable action, and results as the text that the LLM received. So a later run neither repeats a call nor needs its tool. A call
without a result, from a cancelled run, gets an error as its result.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from openhands.sdk.event import (
    ActionEvent,
    AgentErrorEvent,
    Condensation,
    Event,
    MessageEvent,
    ObservationBaseEvent,
    ObservationEvent,
)

from a2a_gateway.agents.history import History, HistoryObservation
from a2a_gateway.errors import StoreError
from delegate_tool.masking import Secrets

_VERSION: Final = 1
_NOT_FINISHED: Final = "The call was interrupted before it had a result."


def encode_transcript(system: str, events: Iterable[Event], secrets: Secrets) -> str:
    """Encode a conversation; known secrets are masked."""
    lines = [json.dumps({"version": _VERSION, "system": system})]
    # `parent_id` names an event of this SDK conversation, which the next one does not have.
    lines += [event.model_dump_json(exclude={"parent_id"}, exclude_none=True) for event in _portable(list(events))]
    return _escape_secrets(secrets).mask("\n".join(lines))


def decode_transcript(text: str) -> History:
    """Decode the result of `encode_transcript`.

    Raises:
        StoreError: it is damaged, or of another version.
    """
    first, *rest = text.split("\n")
    try:
        head = json.loads(first)
        if head["version"] != _VERSION:
            raise ValueError(f"version {head['version']}")
        return History(str(head["system"]), tuple(Event.model_validate_json(line) for line in rest))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("The stored conversation cannot be read by this version. Begin a new one.") from error


def _escape_secrets(secrets: Secrets) -> Secrets:
    """Return the secrets as they appear in JSON: escaped once, or twice within the arguments of a call."""
    once = _escape_all(secrets.values)
    return Secrets.of(once | _escape_all(once))


def _escape_all(texts: Iterable[str]) -> set[str]:
    return {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for text in texts for ascii_only in (True, False)}


def _portable(events: Sequence[Event]) -> Iterator[Event]:
    answered = {event.tool_call_id for event in events if isinstance(event, ObservationBaseEvent)}
    for index, event in enumerate(events):
        match event:
            case ActionEvent():
                yield event.model_copy(update={"action": None, "critic_result": None})
                following = events[index + 1] if index + 1 < len(events) else None
                # Added after the last call of an LLM answer, because the calls of one answer must stay together.
                if not (isinstance(following, ActionEvent) and following.llm_response_id == event.llm_response_id):
                    yield from _close_open_calls(events[: index + 1], event.llm_response_id, answered)
            case ObservationEvent():
                as_text = HistoryObservation(content=[*event.observation.to_llm_content, *event.extended_content])
                yield event.model_copy(update={"observation": as_text, "extended_content": []})
            case MessageEvent() | ObservationBaseEvent() | Condensation():
                yield event


def _close_open_calls(events: Sequence[Event], response_id: str, answered: set[str]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, ActionEvent) and event.llm_response_id == response_id and event.tool_call_id not in answered:
            yield AgentErrorEvent(error=_NOT_FINISHED, tool_name=event.tool_name, tool_call_id=event.tool_call_id)
