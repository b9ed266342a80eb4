"""Stopping runs: a run that is stopped takes all below it along, and one whose listeners have left is stopped after a grace.

Above it stands the run service; below it the live runs and the runner, which does the stopping. Owns the tasks that this takes.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import RunId
from a2a_gateway.runs.ports import Runner
from delegate_tool.protocol.context import OnDisconnect


@dataclass(slots=True)
class Stopping:
    """Stops runs.

    Attributes:
        grace_s: how long an abandoned run waits for somebody to attach.
        tasks: what is under way; whoever owns this waits for them in the end.
    """

    live_runs: LiveRuns
    runner: Runner
    grace_s: float
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def request(self, live: LiveRun, why: str = "") -> None:
        """Ask a run and everything below it to stop, all at once rather than level by level."""
        if not live.cancelled.is_set():
            live.why = why
            live.cancelled.set()
            self.spawn(self.runner.cancel(live.record.id))
            for child in self.live_runs.children(live.record.id):
                self.request(child, why)

    async def cancel_children(self, run_id: RunId) -> bool:
        """Stop the live children of a run, and wait until they have stopped; says whether there were any."""
        children = self.live_runs.children(run_id)
        for child in children:
            self.request(child)
        for child in children:
            await child.closed.wait()
        return bool(children)

    def abandon(self, live: LiveRun) -> None:
        """Take note that the last listener of a run has gone."""
        if live.on_disconnect is OnDisconnect.CANCEL:
            self.spawn(self._cancel_if_abandoned(live))

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do something that whoever asked for it does not wait for."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _cancel_if_abandoned(self, live: LiveRun) -> None:
        times_left = live.times_left
        with suppress(TimeoutError):
            async with asyncio.timeout(self.grace_s):
                await live.closed.wait()
        came_back = live.times_left != times_left  # and has gone once more: that has a grace of its own
        if live.abandoned and not came_back and not live.finished:
            self.request(live)
