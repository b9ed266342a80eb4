"""The reply to one delegation: a stream of chunks, gathered into a `DelegationResult`.

Above stands `client`, which sends and times; below `usage`, which reads what the endpoint reports. Knows the OpenAI
client's types.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from delegate_tool.failures import Failure, broken_off, filtered
from delegate_tool.result import DelegationResult, DelegationStatus
from delegate_tool.usage import read_left, read_report, read_run
from delegate_tool.wellformed import well_formed


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer, and of the thoughts before it; either may be empty."""

    content: str
    reasoning: str


class Reply:
    """One response, complete or not."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._headers: Mapping[str, str] = {}
        self._usage: Mapping[str, object] = {}
        self._finish_reason: str | None = None

    @property
    def text(self) -> str:
        """What has arrived."""
        return "".join(self._text)

    async def read(
        self, stream: AsyncStream[ChatCompletionChunk], on_delta: Callable[[Delta], None] = lambda delta: None
    ) -> None:
        """Take in a stream to its end, and close it; what arrived before an error is kept.

        Args:
            on_delta: told each piece of the answer as it arrives.

        Raises:
            ValueError: it is not in OpenAI's format; `openai.APIError` and `httpx.HTTPError`, as the client does.
        """
        self._headers = stream.response.headers
        async with stream:
            try:
                async for chunk in stream:
                    for delta in self._take(chunk):
                        on_delta(delta)
            except RecursionError:
                raise ValueError("its JSON is nested too deeply") from None

    def _take(self, chunk: object) -> Iterator[Delta]:
        # The client does not validate chunks: what their types promise may be missing, null or something else.
        usage, choices = getattr(chunk, "usage", None), getattr(chunk, "choices", None)
        if isinstance(usage, BaseModel):
            self._usage = usage.model_dump(warnings=False)
        for choice in choices if isinstance(choices, list) else ():
            told = getattr(choice, "delta", None)
            delta = Delta(_text(told, "content"), _text(told, "reasoning_content"))
            self._text.append(delta.content)
            self._finish_reason = _text(choice, "finish_reason") or self._finish_reason
            yield delta

    def conclude(self, failure: Failure | None) -> DelegationResult:
        """Make the result of what has arrived, and of what went wrong if something did."""
        failure = failure or _unsaid_failure(self._finish_reason)
        headers, details = (failure.headers or self._headers, failure.details) if failure else (self._headers, {})
        report = read_report(headers, self._usage, details)
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

    def _status(self, stop_reason: str | None) -> DelegationStatus:
        limited = self._finish_reason == "length" or stop_reason not in (None, "finished")
        return DelegationStatus.PARTIAL if limited else DelegationStatus.FINISHED


def _text(told: object, name: str) -> str:
    value = getattr(told, name, None)
    return well_formed(value) if isinstance(value, str) else ""


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
        answer=result.answer or (well_formed(partial) if isinstance(partial, str) else ""),
        left=result.left or read_left(failure.details, by_refusal=failure.status is DelegationStatus.REFUSED),
        error_code=failure.code,
        error_message=failure.message,
        details=failure.details,
        stop_reason=result.stop_reason or failure.code,
    )
    # A gateway says of each error whether to try again, and names the run if it had admitted one.
    was_not_admitted = "x-should-retry" in failure.headers and result.run_id is None and result.cost_micro_usd is None
    if failure.status is DelegationStatus.REFUSED or was_not_admitted:
        return replace(result, cost_micro_usd=result.cost_micro_usd or 0, cost_complete=True, runs=0)
    return result
