"""The response to a request for a run, on a wire that shows less than chat does."""

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.events import ContentDelta, RunEvent, RunSummary
from a2a_gateway.runs.messages import TextPart, UserMessage
from a2a_gateway.runs.model import RunRecord, RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.server.request_log import RequestNotes
from a2a_gateway.server.run_response import RunResponse
from a2a_gateway.testing.scripted_runner import Until
from a2a_gateway.wire.errors import encode_error
from a2a_gateway.wire.outcome import WireAnswer
from a2a_gateway.wire.presenter import WireResponse
from tests.runs.service_bench import DONE, bench_of

pytestmark = pytest.mark.anyio


class TextOnly:
    """Renders the text of a run and nothing else, not even its end."""

    headers: Mapping[str, str] = {"content-type": "text/plain"}

    def event(self, event: RunEvent) -> bytes:
        return event.text.encode() if isinstance(event, ContentDelta) else b""

    def heartbeat(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class TextPresenter:
    is_stream: bool = True
    ignored_fields: Sequence[str] = ()

    def opens(self, event: RunEvent) -> bool:
        return isinstance(event, ContentDelta)

    def stream(self, record: RunRecord) -> TextOnly:
        return TextOnly()

    def whole(self, answer: WireAnswer, summary: RunSummary, events: Sequence[RunEvent]) -> WireResponse:
        return WireResponse(200, {"content-type": "text/plain"}, answer.text.encode())

    def error(self, error: GatewayError) -> WireResponse:
        return encode_error(error)


async def test_a_stream_ends_also_on_a_wire_that_shows_no_end(tmp_path: Path) -> None:
    sent: list[MutableMapping[str, Any]] = []
    text_is_sent = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        if message.get("body"):
            text_is_sent.set()

    async with bench_of(tmp_path, lambda _: [ContentDelta("done"), Until(text_is_sent), DONE]) as bench:
        request = RunRequest("openhands_a", (UserMessage((TextPart("task"),)),))
        caller = Caller(bench.key)
        response = RunResponse(
            bench.service, request, caller, TextPresenter(), ignored=(), notes=RequestNotes("req_1"), heartbeat_s=15
        )
        await response({"type": "http"}, receive, send)
    start, *parts = sent
    assert start["status"] == 200
    assert b"".join(part["body"] for part in parts) == b"done"
    assert [part["more_body"] for part in parts][-1] is False
