"""The seam between a run and a wire: how a wire presents a run to the client that requested it.

`server.run_response` moves the bytes and depends only on these protocols. A new wire adds one `Presenter` and changes neither.
A response has one of two forms, and an error may take the place of either:

    whole        no byte is sent before the run has ended: `whole(answer, events)`, or `error(...)` if the run failed
    stream       the status is sent with the first event for which `opens` is true, or after a silence; until then a failure is
                 `error(...)` with its own status. Then `event(...)` is sent for each event, the end included, and `heartbeat()`
                 whenever the run was silent for long.

Presenters are pure: they render, they decide nothing about a run, and they do no I/O.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import RunEvent, RunSummary
from a2a_gateway.runs.model import RunRecord
from a2a_gateway.wire.outcome import WireAnswer


class WireResponse(NamedTuple):
    """A complete HTTP response. The headers name the content type."""

    status: int
    headers: Mapping[str, str]
    body: bytes


type ErrorRenderer = Callable[[GatewayError], WireResponse]
"""Renders an error in the shape of one door."""


class StreamRenderer(Protocol):
    """Renders one run as a stream. `event` is called for every piece of text, so it has to be fast."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers of the stream itself, such as its content type."""
        ...

    def event(self, event: RunEvent) -> bytes:
        """Render one event; empty for an event that this wire does not show. The first one is always `RunStarted`."""
        ...

    def heartbeat(self) -> bytes:
        """Render what keeps a silent connection open."""
        ...


class Presenter(Protocol):
    """Presents one run.

    Attributes:
        is_stream: whether the client asked for a stream.
        ignored_fields: names of the request's fields without effect, for the response header.
    """

    @property
    def is_stream(self) -> bool: ...

    @property
    def ignored_fields(self) -> Sequence[str]: ...

    def opens(self, event: RunEvent) -> bool:
        """Return whether a stream begins with this event, after which its status can no longer be an error."""
        ...

    def stream(self, record: RunRecord) -> StreamRenderer:
        """Prepare to render the run as a stream."""
        ...

    def whole(self, answer: WireAnswer, summary: RunSummary, events: Sequence[RunEvent]) -> WireResponse:
        """Render the whole response of a run that ended with an answer, from all its events."""
        ...

    def error(self, error: GatewayError) -> WireResponse:
        """Render an error that takes the place of the response."""
        ...
