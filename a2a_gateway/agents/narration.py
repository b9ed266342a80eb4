"""What a caller sees of an agent at work: pieces of LLM answers and the SDK's events in, events of the run out.

Owns where text goes (`Narration`), that nothing is said twice, and that no known secret leaves. Below it stand `pieces` and
`masking`; above it the execution of a run. It never waits and never fails: it only translates.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import assert_never

from openhands.sdk.event import ActionEvent, AgentErrorEvent, Event, ObservationEvent, UserRejectObservation
from openhands.sdk.llm import Message
from openhands.sdk.tool.builtins import FinishTool

from a2a_gateway.agents.json_field import JsonStringField
from a2a_gateway.agents.llm.deltas import CallPiece, Piece, ReasoningPiece, TextPiece, pieces_of_message
from a2a_gateway.runs.events import ContentDelta, ReasoningDelta, RunnerEvent, ToolFinished, ToolStarted
from delegate_tool.masking import Secrets, StreamMask
from delegate_tool.protocol.context import Narration

type Emit = Callable[[RunnerEvent], None]


class _Channel:
    """One text stream to the caller: masked, its paragraphs separated by a blank line."""

    def __init__(self, emit: Callable[[str], None], mask: StreamMask) -> None:
        self._emit = emit
        self._mask = mask
        self._sent: list[str] = []
        self._lead: str | None = ""  # white space at a paragraph's start, held until it is known that text follows

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
    """One tool call that is being written. Its name counts from where it comes: some endpoints send arguments before it."""

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


class _Place(Enum):
    """Where a text that is no answer goes."""

    CONTENT = auto()
    REASONING = auto()
    NOWHERE = auto()


class Narrator:
    """Turns the pieces of one run's LLM answers into deltas; joined, its content deltas are `text`.

    Args:
        keep_answer: do not emit the answer but keep it in `answer`, for somebody who checks it first; text before tool calls is
            then never content.
    """

    def __init__(self, narration: Narration, secrets: Secrets, emit: Emit, *, keep_answer: bool = False) -> None:
        self._content = _Channel(lambda text: emit(ContentDelta(text)), secrets.stream())
        self._reasoning = _Channel(lambda text: emit(ReasoningDelta(text)), secrets.stream())
        self._place = _place_of(narration, keep_answer)
        self._keep_answer = keep_answer
        self._last_narration = ""
        self._begin_turn()

    @property
    def text(self) -> str:
        """What has been emitted as content."""
        return self._content.text

    def turn_started(self) -> None:
        """Expect the answer of another LLM call."""
        self._begin_turn()

    def add(self, piece: Piece) -> None:
        """Show a piece, or hold it until it is known what it belongs to."""
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

    def turn_ended(self, message: Message) -> None:
        """Settle what was held, now that the LLM's answer is whole; shows all of it if none of it was streamed."""
        if not self._streamed:
            for piece in pieces_of_message(message):
                self.add(piece)
        if not self._calls:
            self._tell_answer(self._held)
        if self._finish_text.strip() != self._turn_text.strip():
            self._tell_answer(self._finish_text)
        self._end_turn()

    def turn_broken(self) -> None:
        """Show what was held: the LLM's answer has broken off, and this is all that there will be."""
        self._tell_answer(self._held)
        self._end_turn()

    def tell(self, text: str) -> None:
        """Emit a text as content, in a paragraph of its own."""
        self._content.write(text)
        self._content.end_paragraph()

    def tell_last_narration(self) -> None:
        """Emit the agent's last words, for a run that a limit ended before there was an answer."""
        if not self.text:
            self.tell(self._last_narration)

    def _begin_turn(self) -> None:
        self.answer = ""
        self._streamed = False
        self._calls: dict[int, _Call] = {}
        self._turn_text = ""
        self._held = ""
        self._finish_text = ""  # of the finish tool's message, what is held because it may only repeat the text
        self._finishing = False

    def _end_turn(self) -> None:
        if self._turn_text.strip() and self._calls:
            self._last_narration = self._turn_text
        self._content.end_paragraph()
        self._reasoning.end_paragraph()
        self._held = self._finish_text = ""

    def _add_text(self, text: str) -> None:
        self._turn_text += text
        if self._place is _Place.CONTENT:
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
        said = self._turn_text.strip() if self._place is _Place.CONTENT else ""
        if self._finishing or not said.startswith(self._finish_text.strip()):
            self._finishing = True
            self._tell_answer(self._finish_text)
            self._finish_text = ""

    def _narrate(self, text: str) -> None:
        if self._place is _Place.REASONING:
            self._reasoning.write(text)

    def _tell_answer(self, text: str) -> None:
        if self._keep_answer:
            self.answer += text
        else:
            self._content.write(text)


def _place_of(narration: Narration, keep_answer: bool) -> _Place:
    match narration:
        case Narration.LIVE:
            return _Place.REASONING if keep_answer else _Place.CONTENT
        case Narration.REASONING:
            return _Place.REASONING
        case Narration.NONE:
            return _Place.NOWHERE
        case _:
            assert_never(narration)


def translate_event(event: Event) -> RunnerEvent | None:
    """Translate an SDK event; None for those that a caller is not told about."""
    match event:
        case ActionEvent(tool_name=FinishTool.name) | ObservationEvent(tool_name=FinishTool.name):
            return None
        case ActionEvent():
            return ToolStarted(event.tool_name, event.tool_call_id)
        case ObservationEvent():
            return ToolFinished(event.tool_name, event.tool_call_id, event.observation.is_error)
        case AgentErrorEvent() | UserRejectObservation():
            return ToolFinished(event.tool_name, event.tool_call_id, is_error=True)
        case _:
            return None
