"""Cancellation: of a run with all runs below it, and, after a grace, of a run whose clients have left.

    who asks                            what happens
    a client or peer, by id or key      `request`; the caller waits for `LiveRun.closed`
    the last client leaves              `note_abandoned`: after `grace_s` a `request`, unless a client has attached meanwhile
    the parent ends                     `cancel_children`: the parent's end is published after its children have closed
    the key is revoked, or a shutdown   `request` on every root, or on every run

`request` marks the whole subtree before it returns, so no run of it can begin (`run_life`). The runner then interrupts each agent
in a task of this module.
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
class Cancellation:
    """Cancels runs.

    Attributes:
        grace_s: how long an abandoned run waits for a client to attach.
        tasks: those under way; the run service waits for them at the end.
    """

    live_runs: LiveRuns
    runner: Runner
    grace_s: float
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def request(self, live: LiveRun, reason: str = "") -> None:
        """Mark a run and all below it as cancelled, at once rather than level by level, and interrupt them."""
        if live.cancel(reason):
            self.spawn(self.runner.cancel(live.record.id))
        for child in self.live_runs.list_children(live.record.id):
            self.request(child, reason)

    async def cancel_children(self, run_id: RunId) -> bool:
        """Cancel the live children of a run, wait until they have closed, and return whether there were any."""
        children = self.live_runs.list_children(run_id)
        for child in children:
            self.request(child)
        for child in children:
            await child.closed.wait()
        return bool(children)

    def note_abandoned(self, live: LiveRun) -> None:
        """Cancel a run after the grace, unless a client attaches or the run is to continue without one."""
        if live.on_disconnect is OnDisconnect.CANCEL:
            self.spawn(self._cancel_if_abandoned(live))

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine in a task for which the caller does not wait."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _cancel_if_abandoned(self, live: LiveRun) -> None:
        departures = live.departures
        with suppress(TimeoutError):
            async with asyncio.timeout(self.grace_s):
                await live.closed.wait()
        left_again = live.departures != departures  # which has a grace of its own
        if live.is_abandoned and not left_again and not live.has_ended:
            self.request(live)
