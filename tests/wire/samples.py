"""Requests, records and summaries that the tests of the wire format share."""

import base64
import json
from dataclasses import replace
from typing import Final

from a2a_gateway.runs.events import AgentCost, Outcome, RunFinished, RunSummary
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import ConversationId, KeyId, RunId, RunState, TokenUsage, TreeId
from tests.support.records import make_run_record

RECORD: Final = make_run_record(
    "run-1",
    tree_id=TreeId("tree-1"),
    parent_id=RunId("run-0"),
    key_id=KeyId("key-1"),
    agent="openhands_lead",
    depth=1,
    state=RunState.FINISHED,
    limits=Limits(
        max_depth=3, timeout_s=60.0, budget_micro_usd=500_000, allowed_agents=frozenset({"openhands_b", "openhands_a"})
    ),
    deadline_at=1_700_000_060.0,
    task_hash="hash",
    conversation_id=ConversationId("0b5dd1f0-5f0c-4d0e-9a3b-0f8e3f4f2a11"),
    created_at=1_700_000_000.0,
    started_at=1_700_000_000.5,
    ended_at=1_700_000_003.75,
    turns=2,
    usage=TokenUsage(prompt=1200, completion=300, cached=800, reasoning=20),
    cost_self_micro_usd=10_000,
    cost_tree_micro_usd=12_300,
    descendants=2,
    stop_reason="finished",
)

SUMMARY: Final = RunSummary(
    record=RECORD,
    by_agent=(AgentCost("openhands_research", 2, 2_300),),
    tree_usage=TokenUsage(prompt=5200, completion=900),
    remaining_micro_usd=487_700,
)


def end_of(outcome: Outcome, **record: object) -> RunFinished:
    """Return the end of a run with this outcome and the sample's summary."""
    return RunFinished(outcome, replace(SUMMARY, record=replace(RECORD, **record)))  # type: ignore[arg-type]  # fields by name


USER: dict[str, object] = {"role": "user", "content": "hi"}
PIXEL = "data:image/png;base64," + base64.b64encode(b"pixel").decode()


def call(call_id: str = "c1", name: str = "search", arguments: object = "{}") -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def schema_format(schema: object, name: str = "answer") -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def body(**fields: object) -> bytes:
    """Encode the body of a minimal request, with more fields."""
    return json.dumps({"model": "openhands_default", "messages": [USER], **fields}).encode()
