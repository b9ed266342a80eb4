"""Examples of responses for the OpenAPI document, rendered by the wire itself from one sample run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from a2a_gateway.errors import BudgetExceeded
from a2a_gateway.runs.events import (
    AgentCost,
    ContentDelta,
    Finished,
    RunEvent,
    RunFinished,
    RunStarted,
    RunSummary,
    ToolFinished,
    ToolStarted,
)
from a2a_gateway.runs.kept_text import KeptText
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import (
    ConversationId,
    KeyId,
    Profile,
    ProfileProblem,
    RunId,
    RunRecord,
    RunState,
    TokenUsage,
    TreeId,
)
from a2a_gateway.wire.errors import error_object
from a2a_gateway.wire.models import render_model, render_models, render_profiles
from a2a_gateway.wire.outcome import WireAnswer
from a2a_gateway.wire.run_events import render_end, render_run_event
from a2a_gateway.wire.run_view import render_details, render_run, render_tree
from a2a_gateway.wire.usage import render_tree_tokens
from delegate_tool.protocol.limits import LimitPolicy

GATEWAY_ID: Final = "build-box"
_CREATED_AT: Final = 1_700_000_000.0
_TEXT: Final = "The tests pass."

PROFILE: Final = Profile(
    "lead",
    "Plans a change and delegates its parts.",
    source="",
    llm_model="",
    context_tokens=200_000,
    max_output_tokens=64_000,
    tools=("terminal", "file_editor", "delegate"),
    may_delegate=True,
    policy=LimitPolicy(max_depth=2),
)
RECORD: Final = RunRecord(
    id=RunId("6f1c2b9e-6a57-4c0f-9a53-2f1f4a0f7f10"),
    tree_id=TreeId("6f1c2b9e-6a57-4c0f-9a53-2f1f4a0f7f10"),
    parent_id=None,
    key_id=KeyId("key"),
    agent=PROFILE.model,
    depth=0,
    state=RunState.FINISHED,
    limits=Limits(budget_micro_usd=500_000),
    deadline_at=_CREATED_AT + 1800,
    task_hash="",
    conversation_id=ConversationId("0b5dd1f0-5f0c-4d0e-9a3b-0f8e3f4f2a11"),
    created_at=_CREATED_AT,
    started_at=_CREATED_AT,
    ended_at=_CREATED_AT + 12.5,
    turns=4,
    usage=TokenUsage(prompt=1200, completion=300, cached=800, reasoning=20),
    cost_self_micro_usd=10_000,
    cost_tree_micro_usd=12_300,
    descendants=1,
    stop_reason="finished",
)
CHILD: Final = replace(
    RECORD,
    id=RunId("0d2d7f3a-51f0-4f0e-8d53-1c8f7f3f9b02"),
    parent_id=RECORD.id,
    agent="openhands_reviewer",
    depth=1,
    turns=1,
    cost_self_micro_usd=2_300,
    cost_tree_micro_usd=2_300,
    descendants=0,
)
SUMMARY: Final = RunSummary(
    RECORD,
    by_agent=(AgentCost("openhands_reviewer", 1, 2_300),),
    tree_usage=TokenUsage(prompt=1900, completion=420),
    remaining_micro_usd=487_700,
)
ANSWER: Final = WireAnswer(_TEXT, "stop")

MODEL: Final = render_model(PROFILE, created=int(_CREATED_AT))
MODELS: Final = render_models([PROFILE], created=int(_CREATED_AT))
PROFILES: Final = render_profiles(
    [PROFILE],
    [ProfileProblem("/srv/profiles/writer.md", "a2a.max_dept: there is no such setting (did you mean max_depth?)", 5)],
    [Path("/srv/profiles")],
    created=int(_CREATED_AT),
)
RUN: Final = render_run(RECORD, now=_CREATED_AT)
RUNS: Final = {"object": "list", "data": [RUN]}
RUN_DETAILS: Final = {
    **RUN,
    "tree_tokens": render_tree_tokens(SUMMARY),
    **render_details(
        task=KeptText("Make the tests pass."),
        workspace_dir="/srv/gateway/workspaces/0b5dd1f0-x7a",
        children=[CHILD],
        now=_CREATED_AT,
    ),
    **render_end(RunFinished(Finished(_TEXT), SUMMARY)),
}
RUN_TREE: Final = render_tree([RECORD, CHILD], now=_CREATED_AT, gateway_id=GATEWAY_ID)
EVENTS: Final[Sequence[RunEvent]] = (
    RunStarted(RECORD),
    ToolStarted("delegate", "call_1", KeptText('{"agent": "openhands_reviewer", "task": "Review the change."}')),
    ToolFinished("delegate", "call_1", child_run_id=CHILD.id),
    ContentDelta(_TEXT),
    RunFinished(Finished(_TEXT), SUMMARY),
)
RUN_EVENTS: Final = b"".join(
    render_run_event(number, event, RECORD, at=_CREATED_AT, gateway_id=GATEWAY_ID) for number, event in enumerate(EVENTS)
).decode()
ERROR: Final = {"error": error_object(BudgetExceeded("The budget of 0.50 USD is spent. Raise X-A2A-Budget-USD."))}
HEALTH: Final = {"status": "ok"}
READINESS: Final = {"status": "ready", "peers_ok": 1, "peers_down": 0, "peers": {"review-box": "ok"}}
KEY_SET: Final = {
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "kPrK",
            "use": "sig",
            "alg": "EdDSA",
        }
    ],
    "gateway_id": GATEWAY_ID,
}
