"""Translate pieces of LLM answers and the SDK's events to the events of a run that a caller receives.

Decides where text goes (`Narration`), sends no text twice, and masks known secrets. It never waits and never fails.

    text of the LLM                LIVE        REASONING    NONE
    before or beside tool calls    content     reasoning    dropped
    the answer                     content     content      content
    reasoning                      reasoning   reasoning    reasoning

The answer is the text of an LLM answer without tool calls, or the message of the `finish` tool. Only the end of an LLM answer
shows whether a tool call follows its text. So text is held until then, unless both kinds go to the content. With `keep_answer`,
the answer is kept for a check instead of being sent, and LIVE sends text before tool calls as reasoning.
"""

import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, assert_never

from openhands.sdk.event import ActionEvent, AgentErrorEvent, Event, ObservationBaseEvent, ObservationEvent, UserRejectObservation
from openhands.sdk.llm import Message
from openhands.sdk.tool.builtins import FinishTool

from a2a_gateway.agents.json_field import JsonStringField
from a2a_gateway.agents.llm.deltas import CallPiece, Piece, ReasoningPiece, TextPiece, pieces_of_message
from a2a_gateway.runs.events import ContentDelta, ReasoningDelta, RunnerEvent, ToolFinished, ToolStarted
from a2a_gateway.runs.kept_text import keep_text
from delegate_tool.masking import Secrets, StreamMask
from delegate_tool.protocol.context import Narration
from delegate_tool.schema import DelegationObservation

_ARGUMENT_BYTES: Final = 16 * 1024
_NAME_CHARS: Final = 200

type Emit = Callable[[RunnerEvent], None]


class _Channel:
    """One text stream to the caller: masked, with paragraphs separated by a blank line."""

    def __init__(self, emit: Callable[[str], None], mask: StreamMask) -> None:
        self._emit = emit
        self._mask = mask
        self._sent: list[str] = []
        self._lead: str | None = ""  # white space at a paragraph's start, held until text follows

    @property
    def text(self) -> str:
        return "".join(self._sent)

    def write(self, text: str) -> None:
        if self._lead is not None:
            self._lead += text
            if not self._lead.strip():
                return
            text, self._lead = (self._break() + self._lead.lstrip("\n") if self._sent else self._lead), None
        self._send(self._mask.feed(text))

    def end_paragraph(self) -> None:
        self._send(self._mask.flush())
        self._lead = ""

    def _send(self, text: str) -> None:
        if text:
            self._sent.append(text)
            self._emit(text)

    def _break(self) -> str:
        tail = (self._sent[-2] if len(self._sent) > 1 else "") + self._sent[-1]
        return "" if tail.endswith("\n\n") else "\n" if tail.endswith("\n") else "\n\n"


class _Call:
    """One tool call that is arriving. Arguments are held until the name has come: some endpoints send them before it."""

    def __init__(self) -> None:
        self._name = ""
        self._unread = ""
        self._message = JsonStringField("message")

    def feed(self, piece: CallPiece) -> str:
        """Return what a piece adds to the answer: nothing, unless the call is the finish tool's."""
        self._name = self._name or piece.name
        self._unread += piece.arguments
        if not self._name:
            return ""
        unread, self._unread = self._unread, ""
        return self._message.feed(unread) if self._name == FinishTool.name else ""


class _Target(Enum):
    """The destination of text that is not part of the answer."""

    CONTENT = auto()
    REASONING = auto()
    NOWHERE = auto()


class Narrator:
    """Turns the pieces of one run's LLM answers into deltas; joined, the content deltas are `text`.

    Args:
        keep_answer: keep the answer in `answer` instead of emitting it, so that it can be checked first. Text before tool calls
            is then never content.
    """

    def __init__(self, narration: Narration, secrets: Secrets, emit: Emit, *, keep_answer: bool = False) -> None:
        self._content = _Channel(lambda text: emit(ContentDelta(text)), secrets.stream())
        self._reasoning = _Channel(lambda text: emit(ReasoningDelta(text)), secrets.stream())
        self._target = _target_of(narration, keep_answer)
        self._keep_answer = keep_answer
        self._last_narration = ""
        self.begin_turn()

    @property
    def text(self) -> str:
        """The text that has been emitted as content."""
        return self._content.text

    def begin_turn(self) -> None:
        """Begin the answer of another LLM call."""
        self.answer = ""
        self._streamed = False
        self._calls: dict[int, _Call] = {}
        self._turn_text = ""
        self._held = ""
        self._finish_text = ""  # the part of the finish tool's message that is held because it may only repeat the text
        self._finishing = False

    def add(self, piece: Piece) -> None:
        """Emit a piece, or hold it until it is known whether it belongs to the answer."""
        self._streamed = True
        match piece:
            case ReasoningPiece(text=text):
                self._reasoning.write(text)
            case TextPiece(text=text):
                self._add_text(text)
            case CallPiece():
                self._add_call(piece)
            case _:
                assert_never(piece)

    def end_turn(self, message: Message) -> None:
        """Emit the held text of a complete LLM answer; emit the whole answer if it was not streamed."""
        if not self._streamed:
            for piece in pieces_of_message(message):
                self.add(piece)
        if not self._calls:
            self._write_answer(self._held)
        if self._finish_text.strip() != self._turn_text.strip():
            self._write_answer(self._finish_text)
        self._close_turn()

    def abort_turn(self) -> None:
        """Emit the held text of an LLM answer that has broken off."""
        self._write_answer(self._held)
        self._close_turn()

    def write(self, text: str) -> None:
        """Emit text as content, in a paragraph of its own."""
        self._content.write(text)
        self._content.end_paragraph()

    def write_last_narration(self) -> None:
        """Emit the agent's last text before a tool call, for a run that a limit ended before it had an answer."""
        if not self.text:
            self.write(self._last_narration)

    def _close_turn(self) -> None:
        if self._turn_text.strip() and self._calls:
            self._last_narration = self._turn_text
        self._content.end_paragraph()
        self._reasoning.end_paragraph()
        self._held = self._finish_text = ""

    def _add_text(self, text: str) -> None:
        self._turn_text += text
        if self._target is _Target.CONTENT:
            self._content.write(text)
        elif self._calls:
            self._narrate(text)
        else:
            self._held += text

    def _add_call(self, piece: CallPiece) -> None:
        if piece.index not in self._calls:
            self._calls[piece.index] = _Call()
            self._narrate(self._held)
            self._held = ""
            self._content.end_paragraph()
        if text := self._calls[piece.index].feed(piece):
            self._add_finish_text(text)

    def _add_finish_text(self, text: str) -> None:
        self._finish_text += text
        sent = self._turn_text.strip() if self._target is _Target.CONTENT else ""
        if self._finishing or not sent.startswith(self._finish_text.strip()):
            self._finishing = True
            self._write_answer(self._finish_text)
            self._finish_text = ""

    def _narrate(self, text: str) -> None:
        if self._target is _Target.REASONING:
            self._reasoning.write(text)

    def _write_answer(self, text: str) -> None:
        if self._keep_answer:
            self.answer += text
        else:
            self._content.write(text)


def _target_of(narration: Narration, keep_answer: bool) -> _Target:
    match narration:
        case Narration.LIVE:
            return _Target.REASONING if keep_answer else _Target.CONTENT
        case Narration.REASONING:
            return _Target.REASONING
        case Narration.NONE:
            return _Target.NOWHERE
        case _:
            assert_never(narration)


def translate_event(event: Event, secrets: Secrets) -> RunnerEvent | None:
    """Translate an SDK event, masked; None for events that are not sent to callers."""
    match event:
        case ActionEvent(tool_name=FinishTool.name) | ObservationEvent(tool_name=FinishTool.name):
            return None
        case ActionEvent():
            arguments = keep_text(_mask_json(event.tool_call.arguments, secrets), _ARGUMENT_BYTES)
            return ToolStarted(*_name_call(event, secrets), arguments)
        case ObservationEvent(observation=observation):
            child_run_id = observation.run_id if isinstance(observation, DelegationObservation) else None
            return ToolFinished(*_name_call(event, secrets), observation.is_error, child_run_id)
        case AgentErrorEvent() | UserRejectObservation():
            return ToolFinished(*_name_call(event, secrets), is_error=True)
        case _:
            return None


def _name_call(event: ActionEvent | ObservationBaseEvent, secrets: Secrets) -> tuple[str, str]:
    """Return the name of the tool and the id of the call, which an LLM may have invented."""
    return secrets.mask(event.tool_name)[:_NAME_CHARS], secrets.mask(event.tool_call_id)[:_NAME_CHARS]


def _mask_json(text: str, secrets: Secrets) -> str:
    """Mask secrets in JSON text, also those that are written with escapes; the text need not be valid JSON."""
    masked = secrets.mask(text)
    if "\\" not in text:
        return masked
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return masked
    return masked if secrets.mask_json(values) == values else json.dumps(secrets.mask_json(values), ensure_ascii=False)
