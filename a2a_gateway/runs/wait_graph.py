"""The wait graph: which run waits for which. A circle in it is a deadlock that only a deadline would end.

    a run that has begun       waits for its children: its delegation tool returns when they have ended
    a run that has not begun   waits for the runs on its conversation that have begun or came before

Only a delegated run that begins to wait for a conversation can close a circle, because no run waits for a new root run. So the
graph is searched then only. It has the runs of this gateway: a circle through a peer is ended by the deadline.
"""

from collections import defaultdict

from a2a_gateway.runs.live import LiveRun, LiveRuns
from a2a_gateway.runs.model import ConversationId, RunId, RunState


def waits_for_itself(live: LiveRun, live_runs: LiveRuns) -> bool:
    """Return whether a run that begins to wait for its conversation would wait, directly or through others, for itself."""
    if live.record.parent_id is None:
        return False
    children: defaultdict[RunId | None, list[LiveRun]] = defaultdict(list)
    on_conversation: defaultdict[ConversationId, list[LiveRun]] = defaultdict(list)
    for run in live_runs:
        children[run.record.parent_id].append(run)
        on_conversation[run.record.conversation_id].append(run)

    def list_awaited_by(run: LiveRun) -> list[LiveRun]:
        if not _waits_for_conversation(run):
            return children[run.record.id]
        line = on_conversation[run.record.conversation_id]
        position = line.index(run)
        return line[:position] + [other for other in line[position + 1 :] if not _waits_for_conversation(other)]

    seen, pending = set[RunId](), list_awaited_by(live)
    while pending:
        run = pending.pop()
        if run is live:
            return True
        if run.record.id not in seen:
            seen.add(run.record.id)
            pending += list_awaited_by(run)
    return False


def _waits_for_conversation(run: LiveRun) -> bool:
    return run.record.state is RunState.QUEUED
