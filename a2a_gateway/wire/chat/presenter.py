"""Present a run as OpenAI's chat completions do: the `Presenter` of this wire."""

from collections.abc import Sequence
from dataclasses import dataclass

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import ContentDelta, ReasoningDelta, RunEvent, RunSummary, ToolStarted
from a2a_gateway.runs.model import RunRecord
from a2a_gateway.wire.chat.request import CompletionRequest
from a2a_gateway.wire.chat.response import ChunkRenderer, render_completion
from a2a_gateway.wire.errors import encode_error
from a2a_gateway.wire.outcome import WireAnswer
from a2a_gateway.wire.presenter import WireResponse


@dataclass(frozen=True, slots=True)
class ChatPresenter:
    """Presents one run.

    Attributes:
        gateway_id: name of this gateway, for the usage.
        is_for_agent: whether a run asked for it. An agent must get the cost, even if its client did not ask for the usage.
    """

    request: CompletionRequest
    gateway_id: str
    is_for_agent: bool = False

    @property
    def is_stream(self) -> bool:
        """Return whether the client asked for a stream."""
        return self.request.stream

    @property
    def ignored_fields(self) -> Sequence[str]:
        """Return the names of the request's fields without effect."""
        return self.request.ignored

    def opens(self, event: RunEvent) -> bool:
        """Return whether a stream begins with this event."""
        return isinstance(event, ContentDelta | ReasoningDelta | ToolStarted)

    def stream(self, record: RunRecord) -> ChunkRenderer:
        """Prepare to render the run as chunks."""
        return ChunkRenderer(
            record.id,
            record.agent,
            int(record.created_at),
            include_usage=self.request.include_usage or self.is_for_agent,
            gateway_id=self.gateway_id,
        )

    def whole(self, answer: WireAnswer, summary: RunSummary, events: Sequence[RunEvent]) -> WireResponse:
        """Render the run as one completion."""
        body = render_completion(
            answer,
            summary,
            model=summary.record.agent,
            created=int(summary.record.created_at),
            gateway_id=self.gateway_id,
            reasoning="".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        )
        return WireResponse(200, {"content-type": "application/json"}, body)

    def error(self, error: GatewayError) -> WireResponse:
        """Render an error in OpenAI's shape."""
        return encode_error(error)
