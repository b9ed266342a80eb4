"""Read the reply to one call: gather a stream of chunks into a `DelegationResult`.

`call` uses this module. `protocol.report` reads what the endpoint reports about the run.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
import openai
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk

from delegate_tool.masking import Secrets
from delegate_tool.protocol.fields import Header
from delegate_tool.protocol.report import read_left, read_report, read_run
from delegate_tool.protocol.result import DelegationResult, DelegationStatus
from delegate_tool.protocol.text import well_formed
from delegate_tool.remote.chunk import Chunk, ErrorInStream, is_end, parse_chunk
from delegate_tool.remote.failures import (
    Failure,
    TooLarge,
    broken_stream_failure,
    content_filter_failure,
    no_answer_failure,
    stream_error_failure,
)
from delegate_tool.remote.sse import EventDecoder, ServerSentEvent

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Bound of one answer with its reasoning: several times what the largest models can write. Several copies are kept in memory."""
_PIECE_BYTES: Final = 16
"""What each piece counts beside its text, because it is an object in memory."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer, and of the reasoning before it; either may be empty."""

    content: str
    reasoning: str


class Reply:
    """One response, complete or not.

    Attributes:
        secrets: the credentials that the endpoint received. They are masked in all that it returns: it may quote them, and its
            output reaches other callers and the LLMs of agents.
        max_answer_bytes: bound of the answer with its reasoning; a longer one raises `TooLarge`.
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
        self._kept_bytes = 0

    @property
    def text(self) -> str:
        """The answer, as far as it has arrived."""
        return "".join(self._text)

    @property
    def is_from_gateway(self) -> bool:
        """Whether the response that has begun is a gateway's, which enforces the limits of the request."""
        return Header.PROTOCOL in self._headers

    @property
    def answer_bytes(self) -> int:
        """The size of the answer that has arrived, with its reasoning."""
        return self._answer_bytes

    async def read(self, stream: AsyncStream[ChatCompletionChunk], on_delta: Callable[[Delta], None]) -> None:
        """Read a stream to its end, and close it. What arrived before an error is kept.

        The bytes are decoded here, because the OpenAI client loses chunks and fails at keep-alives: see `sse`.

        Args:
            on_delta: called with each piece of the answer as it arrives.

        Raises:
            TooLarge: the answer is longer than `max_answer_bytes`.
            ValueError: the stream is not in OpenAI's format.
            openai.APIError, httpx.HTTPError: as the OpenAI client raises them.
        """
        self._headers = stream.response.headers
        joiner = _DeltaJoiner(self.secrets, lambda delta: self._keep(delta, on_delta))
        async with stream:
            try:
                await self._read(stream.response, joiner)
            finally:
                joiner.end()

    async def _read(self, response: httpx.Response, joiner: "_DeltaJoiner") -> None:
        decoder = EventDecoder()
        async for piece in response.aiter_bytes():
            try:
                for event in decoder.feed(piece):
                    if is_end(event):
                        return
                    self._add(_parse(event, response.request), joiner)
            finally:
                joiner.emit()
            # If a peer sends as fast as it can, each read returns at once: let the event loop run other tasks.
            await asyncio.sleep(0)
        for event in decoder.end():
            try:
                chunk = _parse(event, response.request)
            except ValueError:
                return  # the stream was cut in the middle of an event; without a finish reason the answer counts as incomplete
            self._add(chunk, joiner)

    def _add(self, chunk: Chunk, joiner: "_DeltaJoiner") -> None:
        size = sum(len(text.encode()) for text in (chunk.content, chunk.reasoning))
        self._answer_bytes += size
        self._kept_bytes += size
        if self._kept_bytes > self.max_answer_bytes:
            raise TooLarge(f"The answer is longer than the {self.max_answer_bytes} bytes that may be kept of one.")
        self._usage = chunk.usage or self._usage
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._asks_for_tools |= chunk.asks_for_tools
        joiner.add(chunk)

    def _keep(self, delta: Delta, on_delta: Callable[[Delta], None]) -> None:
        self._kept_bytes += _PIECE_BYTES
        self._text.append(delta.content)
        on_delta(delta)

    def conclude(self, failure: Failure | None) -> DelegationResult:
        """Make the result from what has arrived, and from the failure if there is one."""
        failure = self._mask_failure(failure or self._failure_of_finish())
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
        return result if failure is None else _add_failure(result, failure)

    def conclude_run(self, run: object) -> DelegationResult | None:
        """Make the result of a cancelled run from its JSON object (`GET /v1/runs/{id}`); None if it is not such an object."""
        report = read_run(self.secrets.mask_json(run))
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

    def _failure_of_finish(self) -> Failure | None:
        """Return the failure that the finish reason means, for a stream that ended without an error."""
        match self._finish_reason:
            case None:
                return broken_stream_failure()
            case "error":
                return stream_error_failure()
            case "content_filter":
                return content_filter_failure()
            case "tool_calls" | "function_call":
                return no_answer_failure(asks_for_tools=True)
            case _:
                return None

    def _missing_answer(self) -> Failure | None:
        """Return a failure if a plain endpoint gave no answer. A gateway reports by itself how its run ended."""
        if self._asks_for_tools:
            return no_answer_failure(asks_for_tools=True)
        if self._finish_reason != "length" and not self.text.strip():
            return no_answer_failure(asks_for_tools=False)
        return None

    def _mask_failure(self, failure: Failure | None) -> Failure | None:
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


class _DeltaJoiner:
    """Masks the texts of chunks, and joins those that arrived together into one delta, so that a flood makes few deltas."""

    def __init__(self, secrets: Secrets, keep: Callable[[Delta], None]) -> None:
        self._content_mask, self._reasoning_mask = secrets.stream(), secrets.stream()
        self._keep = keep
        self._content: list[str] = []
        self._reasoning: list[str] = []

    def add(self, chunk: Chunk) -> None:
        """Add a chunk. Reasoning after content begins another delta, because in a delta the reasoning comes first."""
        if chunk.reasoning:
            if self._content:
                self.emit()
            self._reasoning.append(self._reasoning_mask.feed(chunk.reasoning))
        if chunk.content:
            self._content.append(self._content_mask.feed(chunk.content))

    def emit(self) -> None:
        """Pass on what was added, as one delta."""
        delta = Delta("".join(self._content), "".join(self._reasoning))
        self._content.clear()
        self._reasoning.clear()
        if delta.content or delta.reasoning:
            self._keep(delta)

    def end(self) -> None:
        """Pass on what the masks held back as the possible beginning of a secret."""
        self._content.append(self._content_mask.flush())
        self._reasoning.append(self._reasoning_mask.flush())
        self.emit()


def _parse(event: ServerSentEvent, request: httpx.Request) -> Chunk:
    try:
        return parse_chunk(event)
    except ErrorInStream as error:
        raise _as_api_error(error, request) from None


def _as_api_error(error: ErrorInStream, request: httpx.Request) -> openai.APIError:
    """Make the exception that the OpenAI client raises for an error in a stream."""
    body = error.body
    text = body.get("message") if isinstance(body, Mapping) else body
    message = text if isinstance(text, str) and text else "The endpoint reported an error in the stream."
    return openai.APIError(message, request, body=body)


def _add_failure(result: DelegationResult, failure: Failure) -> DelegationResult:
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
    # A gateway sends `x-should-retry` with each error, and names the run if it had admitted one.
    was_not_admitted = Header.SHOULD_RETRY in failure.headers and result.run_id is None and result.cost_micro_usd is None
    if failure.status is DelegationStatus.REFUSED or was_not_admitted:
        return replace(result, cost_micro_usd=result.cost_micro_usd or 0, cost_complete=True, runs=0)
    return result
