"""The journal of a run: what is kept beside its record, and as long as that. Pure.

    part        written
    task        with the record, when the run is opened
    workspace   when the run is closed
    events      when the run is closed: all of them up to its end, with their times

It has what callers are sent. What an agent reads besides, such as the results of its tools, is not in it.

A crash loses the events of the runs under way. `ServicePolicy.journal_bytes` bounds a journal; nothing is
kept if that is 0. What is left out is marked. Secrets are masked before anything comes here: in events by the runner.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from a2a_gateway.runs.kept_text import KeptText, keep_text
from a2a_gateway.runs.model import RunId

_TASK_BYTES: Final = 16 * 1024
_LONGEST_SECRET: Final = 4 * 1024
"""Characters at the end of a text that was cut which are dropped once it is masked: part of a secret is not recognised."""


@dataclass(frozen=True, slots=True)
class RunJournal:
    """What is kept of one run.

    Attributes:
        task: the last user message of its request.
        workspace_dir: where its tools worked; None if that was not on this machine, or the run has not ended.
        events: encoded by `journal_codec`; None if the run has not ended, or a crash ended it.
    """

    task: KeptText
    workspace_dir: str | None = None
    events: str | None = None


@dataclass(frozen=True, slots=True)
class JournalEnd:
    """What completes the journal of a run when the run is closed; see `RunJournal`."""

    workspace_dir: str | None
    events: str


class Journals(Protocol):
    """The stored journals."""

    async def get(self, run_id: RunId) -> RunJournal | None:
        """Return the journal of a run; None if nothing is kept."""
        ...


def keep_task(task: str, journal_bytes: int, mask: Callable[[str], str]) -> KeptText | None:
    """Return what is kept of a task, masked; None if nothing is."""
    if not journal_bytes:
        return None
    max_bytes = min(journal_bytes, _TASK_BYTES)
    begin = task[: max_bytes + _LONGEST_SECRET]
    is_cut = len(begin) < len(task)
    masked = mask(begin)
    kept = keep_text(masked[:-_LONGEST_SECRET] if is_cut else masked, max_bytes)
    return replace(kept, is_truncated=kept.is_truncated or is_cut)
