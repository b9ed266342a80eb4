"""Parse one streamed answer: a provider's bytes in, lines for LiteLLM out. Pure."""

from collections.abc import Iterable, Iterator

from a2a_gateway.agents.llm.providers.call_ids import CallIds
from a2a_gateway.agents.llm.providers.chat_formats import OllamaChat
from a2a_gateway.agents.llm.providers.formats import ProviderFormat, Unknown, format_of
from a2a_gateway.agents.llm.providers.stream_events import AnswerDamaged, EventReader, StreamEvent, render_line


class StreamReading:
    """Reads one stream.

    Attributes:
        damage: the error for a part that could not be parsed. It is kept here because LiteLLM may ignore errors after the
            finish reason.
    """

    def __init__(self, ids: CallIds) -> None:
        self._reader = EventReader()
        self._ids = ids
        self._format: ProviderFormat | None = None
        self.damage: AnswerDamaged | None = None

    @property
    def is_complete(self) -> bool | None:
        """Whether the answer has ended, by its provider's own mark; None if its format is not known."""
        return False if self._format is None else self._format.is_complete

    def feed(self, data: bytes) -> Iterator[str]:
        """Read some bytes; raises `AnswerDamaged`."""
        return self._lines(self._reader.feed(data))

    def finish(self) -> Iterator[str]:
        """Read what the end of the stream completes; raises `AnswerDamaged`."""
        return self._lines(self._reader.finish())

    def _lines(self, events: Iterable[StreamEvent]) -> Iterator[str]:
        try:
            for event in events:
                for admitted in self._admit(event):
                    yield render_line(admitted)
        except AnswerDamaged as damage:
            self.damage = damage
            raise

    def _admit(self, event: StreamEvent) -> list[StreamEvent]:
        value = event.value
        if value is None:
            self._format = self._format or Unknown()
            self._format.end()
            return [event]
        if event.is_line and isinstance(error := value.get("error"), str) and "choices" not in value:
            raise AnswerDamaged(f"the server reported an error: {error}")
        if self._format is None or isinstance(self._format, Unknown):
            make = format_of(value)
            self._format = Unknown() if make is None else make(self._ids)
        # LiteLLM reads the events of the other formats from fields of server-sent events only.
        is_line = event.is_line and isinstance(self._format, OllamaChat | Unknown)
        return [StreamEvent(admitted, is_line) for admitted in self._format.admit(value)]
