"""Distinguish the tool calls of an LLM's answer, whatever a provider sends as their id and index. Pure.

Each call must have an id that no other call of the conversation has: the SDK matches results to calls by it, and drops a call
without one. Ids are therefore kept where they are unique, and made up otherwise.
"""

import json
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

_ALPHABET: Final = string.ascii_letters + string.digits
_ID_CHARS: Final = 9
"""Mistral accepts only ids of nine letters and digits; the other providers accept any."""


class CallIds:
    """The ids of one conversation's calls."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def make_unique(self, sent: object) -> str:
        """Return the id that was sent, or a fresh one if it is missing or belongs to another call."""
        unique = _id_text(sent)
        while not unique or unique in self._taken:
            unique = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))
        self._taken.add(unique)
        return unique

    def fork(self) -> "CallIds":
        """Return a copy, for an answer that a provider sends a second time."""
        return CallIds(self._taken)


@dataclass(slots=True)
class _Call:
    """One call that is being streamed. `sent_id` is the provider's id, `id` the one that the agent receives."""

    index: int
    id: str
    sent_id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are complete JSON. They may be long, so they are parsed only if their end makes it possible."""
        last = next((piece for piece in reversed(self.arguments) if piece.strip()), "")
        return last.rstrip().endswith(("}", "]")) and _is_json("".join(self.arguments))


class StreamedCalls:
    """The calls of one streamed answer, whose pieces each name their call by an index, an id, both or neither."""

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    @property
    def has_nameless(self) -> bool:
        """Whether a call has no name so far."""
        return any(not call.name for call in self._calls)

    def identify(self, pieces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each piece of one chunk its call's index and id."""
        touched: set[int] = set()
        return [self._identify_piece(piece, touched) for piece in pieces]

    def _identify_piece(self, piece: dict[str, Any], touched: set[int]) -> dict[str, Any]:
        function = repair_function(piece)
        sent_id, name, arguments = _id_text(piece.get("id")), function.get("name") or "", function["arguments"]
        index = piece.get("index") if isinstance(piece.get("index"), int) else None
        call = self._find(index, sent_id)
        if call is None or (name and _begins_call(call, sent_id, name, arguments, is_in_chunk=call.index in touched)):
            call = _Call(len(self._calls), self._ids.make_unique(sent_id), sent_id)
            self._calls.append(call)
        elif name and call.name and call.is_whole:
            arguments = function["arguments"] = ""  # the whole call was sent again
        if index is not None:
            self._by_index[index] = call
        touched.add(call.index)
        call.name = call.name or name
        call.arguments.append(arguments)
        return {**piece, "index": call.index, "id": call.id, "type": "function"}  # no other type is ever offered

    def _find(self, index: int | None, sent_id: str) -> _Call | None:
        known = next((call for call in reversed(self._calls) if sent_id and call.sent_id == sent_id), None)
        if index is None:
            return known or (self._calls[-1] if self._calls else None)
        at_index = self._by_index.get(index)
        return known if known is not None and at_index is not None else at_index


def repair_function(call: dict[str, Any]) -> dict[str, Any]:
    """Give a call a function whose arguments are JSON text; return the function."""
    function = call.get("function")
    if not isinstance(function, dict):
        function = call["function"] = {}
    arguments = function.get("arguments")
    if arguments is None:
        function["arguments"] = ""
    elif not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments)
    return function


def _begins_call(call: _Call, sent_id: str, name: str, arguments: str, *, is_in_chunk: bool) -> bool:
    """Return whether a piece with a name begins another call at the index of this one.

    Some servers repeat the name in each piece of a call, but none sends two pieces of one call in a chunk (`is_in_chunk`).
    """
    is_same_id = bool(sent_id) and sent_id == call.sent_id
    if not call.name:
        return False
    if name != call.name or (sent_id and call.sent_id and not is_same_id) or (is_in_chunk and not is_same_id):
        return True
    is_repeated = is_same_id and arguments == "".join(call.arguments)
    return arguments != "" and not is_repeated and call.is_whole


def _id_text(sent: object) -> str:
    return str(sent) if isinstance(sent, str | int) and not isinstance(sent, bool) else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
