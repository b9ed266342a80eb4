"""Records of runs for tests that need one and do not care about most of it."""

from dataclasses import replace
from typing import Final

from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import ConversationId, KeyId, RunId, RunRecord, RunState, TreeId

_ROOT: Final = RunRecord(
    id=RunId("run"),
    tree_id=TreeId("run"),
    parent_id=None,
    key_id=KeyId("key"),
    agent="openhands_agent",
    depth=0,
    state=RunState.RUNNING,
    limits=Limits(),
    deadline_at=0.0,
    task_hash="",
    conversation_id=ConversationId("conversation"),
    created_at=0.0,
)


def make_run_record(run_id: str = "run", **fields: object) -> RunRecord:
    """Make the record of a root run that is under way; `fields` replace those of `RunRecord`."""
    root = replace(_ROOT, id=RunId(run_id), tree_id=TreeId(run_id))
    return replace(root, **fields)  # type: ignore[arg-type]  # fields of RunRecord
