"""The reply to one delegation: a stream of chunks, gathered into a `DelegationResult`.

Above stands `client`, which sends and times; below `usage`, which reads what the endpoint reports. Knows the OpenAI
client's types.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
import openai
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk

from delegate_tool.chunk import Chunk, ErrorInStream, is_end, parse_chunk
from delegate_tool.failures import Failure, TooLarge, broken_off, filtered, stream_error, unanswered
from delegate_tool.masking import Secrets
from delegate_tool.protocol.report import read_left, read_report, read_run
from delegate_tool.protocol.result import DelegationResult, DelegationStatus
from delegate_tool.protocol.text import well_formed
from delegate_tool.sse import EventDecoder, ServerSentEvent

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Of one answer with its reasoning: several times what the largest models can write. It is kept in memory, more than once."""
_PIECE_BYTES: Final = 16
"""What each piece counts beside its text, because it is an object that is kept."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer, and of the thoughts before it; either may be empty."""

    content: str
    reasoning: str


class Reply:
    """One response, complete or not.

    Attributes:
        secrets: the credentials that the endpoint was sent. They are masked in all that it returns: it may quote them, and
            its words reach other callers and the LLMs of agents.
        max_answer_bytes: of the answer with its reasoning; a longer one ends with `TooLarge`.
    """

    def __init__(self, secrets: Secrets | None = None) -> None:
        self.secrets = secrets or Secrets()
        self.max_answer_bytes = MAX_ANSWER_BYTES
        self._text: list[str] = []
        self._headers: Mapping[str, str] = {}
        self._usage: Mapping[str, object] = {}
        self._finish_reason: str | None = None
        self._asks_for_tools = False
        self._answer_bytes = 0
        self._held_bytes = 0

    @property
    def text(self) -> str:
        """What has arrived."""
        return "".join(self._text)

    @property
    def answer_bytes(self) -> int:
        """The size of what has arrived, with the reasoning."""
        return self._answer_bytes

    async def read(self, stream: AsyncStream[ChatCompletionChunk], on_delta: Callable[[Delta], None]) -> None:
        """Take in a stream to its end, and close it; what arrived before an error is kept.

        The bytes are decoded here, not by the OpenAI client, which loses chunks and fails at keep-alives: see `sse`.

        Args:
            on_delta: called with each piece of the answer as it arrives.

        Raises:
            TooLarge: the answer is longer than `max_answer_bytes`.
            ValueError: it is not in OpenAI's format; `openai.APIError` and `httpx.HTTPError`, as the client does.
        """
        self._headers = stream.response.headers
        outlet = _Outlet(self.secrets, lambda delta: self._keep(delta, on_delta))
        async with stream:
            try:
                await self._read(stream.response, outlet)
            finally:
                outlet.end()

    async def _read(self, response: httpx.Response, outlet: "_Outlet") -> None:
        decoder = EventDecoder()
        async for piece in response.aiter_bytes():
            try:
                for event in decoder.feed(piece):
                    if is_end(event):
                        return
                    self._take(_parse(event, response.request), outlet)
            finally:
                outlet.emit()
            # From a peer that sends as fast as it can, each read returns at once: let the loop get to other tasks.
            await asyncio.sleep(0)
        for event in decoder.end():
            try:
                chunk = _parse(event, response.request)
            except ValueError:
                return  # the stream was cut in the middle of an event: its end mark decides whether the answer is whole
            self._take(chunk, outlet)

    def _take(self, chunk: Chunk, outlet: "_Outlet") -> None:
        size = sum(len(text.encode()) for text in (chunk.content, chunk.reasoning))
        self._answer_bytes += size
        self._held_bytes += size
        if self._held_bytes > self.max_answer_bytes:
            raise TooLarge(f"The answer is longer than the {self.max_answer_bytes} bytes that may be kept of one.")
        self._usage = chunk.usage or self._usage
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._asks_for_tools |= chunk.asks_for_tools
        outlet.add(chunk)

    def _keep(self, delta: Delta, on_delta: Callable[[Delta], None]) -> None:
        self._held_bytes += _PIECE_BYTES
        self._text.append(delta.content)
        on_delta(delta)

    def conclude(self, failure: Failure | None) -> DelegationResult:
        """Make the result of what has arrived, and of what went wrong if something did."""
        failure = self._masked(failure or self._unsaid_failure())
        headers, details = (failure.headers or self._headers, failure.details) if failure else (self._headers, {})
        report = read_report(self._mask(headers), self._mask(self._usage), details)
        if failure is None and report.run_id is None:
            failure = self._missing_answer()
        result = DelegationResult(
            status=self._status(report.stop_reason),
            answer=self.text,
            run_id=report.run_id,
            tree_id=report.tree_id,
            conversation_id=report.conversation_id,
            depth=report.depth,
            cost_micro_usd=report.cost_micro_usd,
            cost_complete=report.cost_complete,
            cost_final=report.cost_final,
            turns=report.turns,
            runs=report.runs,
            tokens=report.tokens,
            tree_tokens=report.tree_tokens,
            stop_reason=report.stop_reason or (self._finish_reason and self.secrets.mask(self._finish_reason)),
            left=report.left,
        )
        return result if failure is None else _failed(result, failure)

    def conclude_run(self, told: object) -> DelegationResult | None:
        """Make the result of a cancelled run, of what the endpoint tells of it as `GET /v1/runs/{id}` does; None if nothing."""
        report = read_run(self.secrets.mask_json(told))
        if report is None:
            return None
        return DelegationResult(
            DelegationStatus.CANCELLED,
            self.text,
            run_id=report.run_id,
            cost_micro_usd=report.cost_micro_usd,
            cost_complete=report.cost_complete,
            cost_final=report.cost_final,
            turns=report.turns,
            runs=report.runs,
            tokens=report.tokens,
            tree_tokens=report.tree_tokens,
        )

    def _unsaid_failure(self) -> Failure | None:
        """Find what went wrong in a stream that ended without an error."""
        match self._finish_reason:
            case None:
                return broken_off()
            case "error":
                return stream_error()
            case "content_filter":
                return filtered()
            case "tool_calls" | "function_call":
                return unanswered(asks_for_tools=True)
            case _:
                return None

    def _missing_answer(self) -> Failure | None:
        """Find out whether a plain endpoint gave no answer. A gateway reports by itself how its run ended."""
        if self._asks_for_tools:
            return unanswered(asks_for_tools=True)
        if self._finish_reason != "length" and not self.text.strip():
            return unanswered(asks_for_tools=False)
        return None

    def _masked(self, failure: Failure | None) -> Failure | None:
        if failure is None:
            return None
        return replace(
            failure,
            code=self.secrets.mask(failure.code),
            message=self.secrets.mask(failure.message),
            details=self._mask(failure.details),
            headers=self._mask(failure.headers),
        )

    def _mask(self, values: Mapping[str, Any]) -> dict[str, Any]:
        masked = self.secrets.mask_json(dict(values))
        return masked if isinstance(masked, dict) else {}

    def _status(self, stop_reason: str | None) -> DelegationStatus:
        limited = self._finish_reason == "length" or stop_reason not in (None, "finished")
        return DelegationStatus.PARTIAL if limited else DelegationStatus.FINISHED


class _Outlet:
    """Masks the texts of chunks and passes them on, joined where they arrived together, so that a flood makes few pieces."""

    def __init__(self, secrets: Secrets, keep: Callable[[Delta], None]) -> None:
        self._content_mask, self._reasoning_mask = secrets.stream(), secrets.stream()
        self._keep = keep
        self._content: list[str] = []
        self._reasoning: list[str] = []

    def add(self, chunk: Chunk) -> None:
        """Add a chunk; reasoning that follows text begins another piece, because a piece's reasoning comes first."""
        if chunk.reasoning:
            if self._content:
                self.emit()
            self._reasoning.append(self._reasoning_mask.feed(chunk.reasoning))
        if chunk.content:
            self._content.append(self._content_mask.feed(chunk.content))

    def emit(self) -> None:
        """Pass on what was added."""
        delta = Delta("".join(self._content), "".join(self._reasoning))
        self._content.clear()
        self._reasoning.clear()
        if delta.content or delta.reasoning:
            self._keep(delta)

    def end(self) -> None:
        """Pass on what the masks have held back, because it might have been the beginning of a secret."""
        self._content.append(self._content_mask.flush())
        self._reasoning.append(self._reasoning_mask.flush())
        self.emit()


def _parse(event: ServerSentEvent, request: httpx.Request) -> Chunk:
    try:
        return parse_chunk(event)
    except ErrorInStream as error:
        raise _as_api_error(error, request) from None


def _as_api_error(error: ErrorInStream, request: httpx.Request) -> openai.APIError:
    """Make what the OpenAI client makes of an error in a stream."""
    body = error.body
    text = body.get("message") if isinstance(body, Mapping) else body
    message = text if isinstance(text, str) and text else "The endpoint reported an error in the stream."
    return openai.APIError(message, request, body=body)


def _failed(result: DelegationResult, failure: Failure) -> DelegationResult:
    partial = failure.details.get("partial")
    result = replace(
        result,
        status=failure.status,
        answer=result.answer or (well_formed(partial) if isinstance(partial, str) else ""),
        left=result.left or read_left(failure.details, by_refusal=failure.status is DelegationStatus.REFUSED),
        error_code=failure.code,
        error_message=failure.message,
        details=failure.details,
        http_status=failure.http_status,
        retry_after_s=failure.retry_after_s,
        stop_reason=result.stop_reason or failure.code,
    )
    # A gateway says of each error whether to try again, and names the run if it had admitted one.
    was_not_admitted = "x-should-retry" in failure.headers and result.run_id is None and result.cost_micro_usd is None
    if failure.status is DelegationStatus.REFUSED or was_not_admitted:
        return replace(result, cost_micro_usd=result.cost_micro_usd or 0, cost_complete=True, runs=0)
    return result
