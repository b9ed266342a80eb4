"""The port through which the core reads runs that are recorded. `ports.Ledger` extends it with what records them."""

from collections.abc import Sequence
from typing import Protocol

from a2a_gateway.runs.events import RunSummary
from a2a_gateway.runs.model import KeyId, RunId, RunRecord, SpendCaps


class RunQueries(Protocol):
    """Reads the record of runs and money. Every method is one transaction."""

    async def get_run(self, run_id: RunId) -> RunRecord | None: ...

    async def get_run_of_key(self, scope: str, key: str) -> RunRecord | None:
        """Return the run of an idempotency key, whatever its request asked for."""
        ...

    async def answer_of(self, run_id: RunId) -> str | None:
        """Return the `answer` that `close_run` was given; None if it had none, or it has expired."""
        ...

    async def run_of_origin(self, key_id: KeyId, origin: str) -> RunRecord | None:
        """Return the run that was opened for a run on a peer; see `RunRecord.origin`."""
        ...

    async def summary(self, run_id: RunId, caps: SpendCaps = ...) -> RunSummary | None:
        """Return what a run has cost by now, and what it has left under the `caps` of its profile."""
        ...

    async def subtree(self, run_id: RunId) -> Sequence[RunRecord]:
        """List a run and all its descendants, parents before children, oldest first; empty if there is no such run."""
        ...

    async def find_runs(self, key_id: KeyId, id_prefix: str, limit: int) -> Sequence[RunRecord]:
        """List the runs of a key whose ids begin with some hexadecimal digits, newest first, at any depth."""
        ...

    async def recent_runs(self, key_id: KeyId | None, limit: int) -> Sequence[RunRecord]:
        """List root runs, newest first; of one key, or of all."""
        ...
