"""The reply to one delegation: a stream of chunks, gathered into a `DelegationResult`.

Above stands `client`, which sends and times; below `usage`, which reads what the endpoint reports. Knows the OpenAI
client's types.
"""

from collections.abc import Mapping
from dataclasses import replace

from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk

from delegate_tool.failures import Failure, broken_off, filtered
from delegate_tool.result import DelegationResult, DelegationStatus
from delegate_tool.usage import read_left, read_report, read_run


class Reply:
    """One response, complete or not."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._headers: Mapping[str, str] = {}
        self._usage: Mapping[str, object] = {}
        self._finish_reason: str | None = None

    async def read(self, stream: AsyncStream[ChatCompletionChunk]) -> None:
        """Take in a stream to its end, and close it; what arrived before an error is kept."""
        self.begin(stream)
        async with stream:
            async for chunk in stream:
                self.add(chunk)

    def begin(self, stream: AsyncStream[ChatCompletionChunk]) -> None:
        """Take in what a response's headers tell."""
        self._headers = stream.response.headers

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take in one chunk."""
        # The client does not validate chunks: what the types promise may still be missing or null.
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._usage = usage.model_dump(warnings=False)
        for choice in getattr(chunk, "choices", None) or ():
            content = getattr(getattr(choice, "delta", None), "content", None)
            if isinstance(content, str):
                self._text.append(content)
            self._finish_reason = getattr(choice, "finish_reason", None) or self._finish_reason

    def conclude(self, failure: Failure | None) -> DelegationResult:
        """Make the result of what has arrived, and of what went wrong if something did."""
        failure = failure or _unsaid_failure(self._finish_reason)
        headers, details = (failure.headers or self._headers, failure.details) if failure else (self._headers, {})
        report = read_report(headers, self._usage, details)
        result = DelegationResult(
            status=self._status(report.stop_reason),
            answer="".join(self._text),
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
            stop_reason=report.stop_reason or self._finish_reason,
            left=report.left,
        )
        return result if failure is None else _failed(result, failure)

    def conclude_run(self, told: object) -> DelegationResult | None:
        """Make the result of a cancelled run, of what the endpoint tells of it as `GET /v1/runs/{id}` does; None if nothing."""
        report = read_run(told)
        if report is None:
            return None
        return DelegationResult(
            DelegationStatus.CANCELLED,
            "".join(self._text),
            run_id=report.run_id,
            cost_micro_usd=report.cost_micro_usd,
            cost_complete=report.cost_complete,
            cost_final=report.cost_final,
            turns=report.turns,
            runs=report.runs,
            tokens=report.tokens,
            tree_tokens=report.tree_tokens,
        )

    def _status(self, stop_reason: str | None) -> DelegationStatus:
        limited = self._finish_reason == "length" or stop_reason not in (None, "finished")
        return DelegationStatus.PARTIAL if limited else DelegationStatus.FINISHED


def _unsaid_failure(finish_reason: str | None) -> Failure | None:
    match finish_reason:
        case None:
            return broken_off()
        case "content_filter":
            return filtered()
        case _:
            return None


def _failed(result: DelegationResult, failure: Failure) -> DelegationResult:
    partial = failure.details.get("partial")
    result = replace(
        result,
        status=failure.status,
        answer=result.answer or (partial if isinstance(partial, str) else ""),
        left=result.left or read_left(failure.details, by_refusal=failure.status is DelegationStatus.REFUSED),
        error_code=failure.code,
        error_message=failure.message,
        details=failure.details,
        stop_reason=result.stop_reason or failure.code,
    )
    if failure.status is DelegationStatus.REFUSED:
        return replace(result, cost_micro_usd=result.cost_micro_usd or 0, cost_complete=True, runs=0)
    return result
