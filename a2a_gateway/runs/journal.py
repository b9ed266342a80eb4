"""The journal of a run: what is kept beside its record, and as long as that. Pure.

    part        written
    task        with the record, when the run is opened
    workspace   when the run is closed

All of it is bounded by `ServicePolicy.journal_bytes`, and nothing is kept if that is 0. What was left out is marked. Secrets are
masked before anything comes here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from a2a_gateway.runs.model import RunId
from delegate_tool.protocol.text import well_formed

_TASK_BYTES: Final = 16 * 1024
_LONGEST_SECRET: Final = 4 * 1024
"""Characters behind the end of a kept text that are masked with it: a part of a secret could not be recognised any more."""


@dataclass(frozen=True, slots=True)
class KeptText:
    """A text as it is kept: whole, or its beginning."""

    text: str
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class RunJournal:
    """What is kept of one run.

    Attributes:
        task: the last user message of its request.
        workspace_dir: where its tools worked; None if that was not on this machine, or the run has not ended.
    """

    task: KeptText
    workspace_dir: str | None = None


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
    kept = keep_text(mask(task[: max_bytes + _LONGEST_SECRET]), max_bytes)
    return replace(kept, is_truncated=kept.is_truncated or len(task) > max_bytes + _LONGEST_SECRET)


def keep_text(text: str, max_bytes: int) -> KeptText:
    """Cut a text to a number of bytes of UTF-8, between two characters."""
    encoded = well_formed(text[:max_bytes]).encode()
    is_truncated = max(len(text), len(encoded)) > max_bytes
    return KeptText(encoded[:max_bytes].decode(errors="ignore"), is_truncated=is_truncated)
