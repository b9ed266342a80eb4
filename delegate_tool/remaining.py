"""What a run has left for delegations. The gateway reports it at the run's start and with each result; the agent's LLM reads it.

It only informs: the gateway alone decides. Where an endpoint does not report it, it is counted down here. The run's own LLM calls
are not counted then, so the money left is an upper bound. Other runs may use it up meanwhile.
"""

import threading
import time
from dataclasses import dataclass

from delegate_tool.protocol.context import DelegationBinding
from delegate_tool.protocol.money import format_usd
from delegate_tool.protocol.result import DelegationResult, DelegationStatus


@dataclass(frozen=True, slots=True)
class Remaining:
    """A snapshot of what a run has left. A value of None is unknown or unlimited."""

    depth: int | None = None
    runs: int | None = None
    budget_micro_usd: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        parts = (
            f"{_count(self.depth, 'level')} of depth" if self.depth is not None else "",
            _count(self.runs, "run") if self.runs is not None else "",
            f"at most ${format_usd(self.budget_micro_usd)}" if self.budget_micro_usd is not None else "",
            f"{self.seconds:.0f} s" if self.seconds is not None else "",
        )
        return ", ".join(part for part in parts if part)


class Allowance:
    """The account of what one run has left. Thread-safe, because calls of one turn end in parallel."""

    def __init__(self, binding: DelegationBinding | None = None, deadline_at: float | None = None) -> None:
        """Start from what a binding grants; `deadline_at` is an instant on `time.monotonic()`."""
        self._lock = threading.Lock()
        self._depth = binding.depth_left if binding else None
        self._runs = binding.runs_left if binding else None
        self._budget_micro_usd = binding.budget_left_micro_usd if binding else None
        self._deadline_at = deadline_at

    def remaining(self) -> Remaining:
        """Return what is left now."""
        seconds = None if self._deadline_at is None else max(0.0, self._deadline_at - time.monotonic())
        with self._lock:
            return Remaining(self._depth, self._runs, self._budget_micro_usd, seconds)

    def charge(self, result: DelegationResult) -> Remaining:
        """Subtract a delegation that has ended. Return what is left after it."""
        with self._lock:
            if result.left is not None:
                self._runs, self._budget_micro_usd = result.left.runs, result.left.budget_micro_usd
            else:
                self._count_down(result)
        return self.remaining()

    def _count_down(self, result: DelegationResult) -> None:
        if self._runs is not None and result.status is not DelegationStatus.REFUSED:
            self._runs = max(0, self._runs - result.runs)
        if self._budget_micro_usd is not None:
            self._budget_micro_usd = max(0, self._budget_micro_usd - (result.cost_micro_usd or 0))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
