"""A runner without agents: each run follows a script. Implements `runs.ports.Runner`, for tests of the core."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from a2a_gateway.errors import DeadlineExceeded
from a2a_gateway.runs.events import Cancelled, ContentDelta, Limited, Outcome, RunEnded, RunnerEvent
from a2a_gateway.runs.model import AdmittedRun, CallQuote, RunId, TokenUsage
from a2a_gateway.runs.ports import Charge, Meter


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until the gate is open. A cancel or the deadline ends the run here, unless it is `stubborn`."""

    gate: asyncio.Event
    stubborn: bool = False


@dataclass(frozen=True, slots=True)
class Spend:
    """Make one LLM call of one token at this price, or quoted at `most_micro_usd` if higher; wait for the gate, if any."""

    micro_usd: int
    most_micro_usd: int = 0
    gate: asyncio.Event | None = None


_ONE_TOKEN: Final = TokenUsage(prompt=1)
_ONE_MICRO_USD: Final = Decimal("0.000001")

type RunStep = RunnerEvent | Until | Spend | Exception
"""One step of a run: emit an event, wait, spend money, or fail."""


@dataclass(slots=True)
class ScriptedRunner:
    """Runs scripts.

    Attributes:
        script: returns the steps of a run.
        admitted: the runs that began, in order.
    """

    script: Callable[[AdmittedRun], Sequence[RunStep]]
    admitted: list[AdmittedRun] = field(default_factory=list)
    _stops: dict[RunId, asyncio.Event] = field(default_factory=dict)

    @property
    def running(self) -> frozenset[RunId]:
        """The runs whose iterator is open."""
        return frozenset(self._stops)

    async def run(self, run: AdmittedRun, meter: Meter) -> AsyncGenerator[RunnerEvent]:
        """See `Runner.run`."""
        stop = self._stops[run.record.id] = asyncio.Event()
        deadline_at = asyncio.get_running_loop().time() + run.timeout_s
        self.admitted.append(run)
        text = ""
        try:
            for step in self.script(run):
                match step:
                    case Until(gate=gate, stubborn=stubborn):
                        if stubborn:
                            await gate.wait()
                        elif not await _wait_for_gate(gate, stop, deadline_at):
                            yield RunEnded(_stop_outcome(stop, text))
                            return
                    case Spend(micro_usd=micro_usd, most_micro_usd=most, gate=gate):
                        hold = await meter.reserve(CallQuote(1, 0, max(micro_usd, most) * _ONE_MICRO_USD, Decimal(0)))
                        try:
                            goes_on = gate is None or await _wait_for_gate(gate, stop, deadline_at)
                        finally:
                            await meter.settle(hold, Charge(_ONE_TOKEN, micro_usd))
                        if not goes_on:
                            yield RunEnded(_stop_outcome(stop, text))
                            return
                    case Exception():
                        raise step
                    case _:
                        text += step.text if isinstance(step, ContentDelta) else ""
                        yield step
        finally:
            del self._stops[run.record.id]

    async def cancel(self, run_id: RunId) -> None:
        """See `Runner.cancel`."""
        if (stop := self._stops.get(run_id)) is not None:
            stop.set()


def _stop_outcome(stop: asyncio.Event, text: str) -> Outcome:
    if stop.is_set():
        return Cancelled()
    return Limited(text, DeadlineExceeded.code, DeadlineExceeded("The script did not end in time."))


async def _wait_for_gate(gate: asyncio.Event, stop: asyncio.Event, deadline_at: float) -> bool:
    """Wait until the gate opens, the run is cancelled or its deadline passes; return whether the gate is open."""
    waits = [asyncio.ensure_future(event.wait()) for event in (gate, stop)]
    try:
        await asyncio.wait(waits, timeout=deadline_at - asyncio.get_running_loop().time(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return gate.is_set()
