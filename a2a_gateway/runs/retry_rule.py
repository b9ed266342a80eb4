"""The rule for a request that repeats one whose run failed: run it again, or send the failure again. Pure.

A transient failure (a rate limit, a provider or a database that is unavailable, a crash) is worth another attempt only while the
run has done nothing. Clients repeat a failed request up to thirty times, mostly unmarked, so after any work an equal request
gets the failure again: otherwise the work, with its side effects and its cost, would be done once per repetition.

    failure           before any work       after work
    transient         carried out again     sent again, `x-should-retry: false`
    any other         sent again            sent again
"""

from typing import Final

from a2a_gateway.errors import (
    GatewayError,
    InternalError,
    LLMUnavailable,
    NotReady,
    RunCancelled,
    RunLost,
    StoreError,
    error_class,
)
from a2a_gateway.runs.model import RunRecord, RunState, TokenUsage

_TRANSIENT: Final = (InternalError, LLMUnavailable, NotReady, RunCancelled, RunLost, StoreError)
"""Failures that a later attempt may not meet, even if `x-should-retry` advises against an immediate one."""
REMEDY: Final = (
    "The run had worked before it failed or was cancelled, so the same request gets this error again instead of doing the work "
    "twice. To run it again, change the request, send another Idempotency-Key, or, without a key, send nothing for a minute."
)
"""For callers with a key. The first error of a cancelled run lacks it, because that has a reason of its own."""


def has_worked(run: RunRecord) -> bool:
    """Return whether an ended run did anything: an answered LLM call, possible cost, or a run below it.

    The ledger counts a turn for each call that was sent. In a run that failed, the last one may be the call that failed.
    """
    answered_turns = run.turns - 1 if run.state is RunState.FAILED else run.turns
    is_free = run.usage == TokenUsage() and not run.cost_tree_micro_usd and run.cost_complete
    return answered_turns > 0 or not is_free or run.descendants > 0


def may_rerun(run: RunRecord, failure: type[GatewayError]) -> bool:
    """Return whether a repetition of a failed run's request begins a run, rather than gets the failure again."""
    return _is_transient(failure) and not has_worked(run)


def releases_idempotency_key(run: RunRecord) -> bool:
    """Return whether a run failed, or was cut short by a crash, so that its idempotency key may begin another run.

    A cancelled run keeps its key: a late repetition of its request must not undo the cancellation.
    """
    failure = error_class(run.error_code) if run.error_code else None
    return run.state in (RunState.FAILED, RunState.LOST) and failure is not None and may_rerun(run, failure)


def final_error(error: GatewayError, run: RunRecord) -> GatewayError:
    """Return the error for a run's caller: after work, one that forbids the retry and states how to run the request again."""
    if not _is_transient(type(error)) or not has_worked(run):
        return error
    has_reader = run.parent_id is None and run.origin is None  # an agent delegates again with a new key, and so does a peer
    return error.as_final(REMEDY if has_reader and not isinstance(error, RunCancelled) else "")


def _is_transient(failure: type[GatewayError]) -> bool:
    return failure.retryable or issubclass(failure, _TRANSIENT)
