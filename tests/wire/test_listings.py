"""`/v1/models` and `/v1/runs`: what a caller sees of agents and of runs."""

import json
from dataclasses import replace

import pytest
from openai.types import Model

from a2a_gateway.runs.model import PeerReport, Profile, RunId, RunState, TokenUsage, WorkspacePolicy
from a2a_gateway.wire.models import render_model, render_models
from a2a_gateway.wire.run_view import render_run, render_tree
from delegate_tool.protocol.limits import LimitPolicy
from tests.wire.samples import RECORD

PROFILE = Profile(
    name="reviewer",
    description="Reviews code.",
    source="/home/ada/profiles/reviewer.md",
    llm_model="openai/gpt-x",
    context_tokens=200_000,
    max_output_tokens=8_000,
    vision=True,
    tools=("terminal", "delegate"),
    may_delegate=True,
    policy=LimitPolicy(max_turns=20, budget_micro_usd=500_000, allowed_agents=frozenset({"openhands_b", "openhands_a"})),
    workspace=WorkspacePolicy.FIXED,
    workspace_path="/home/ada/work",
)


def test_a_profile_is_a_model_with_what_it_may_do() -> None:
    rendered = render_model(PROFILE, created=1_700_000_000)
    assert rendered == {
        "id": "openhands_reviewer",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "openhands",
        "description": "Reviews code.",
        "context_length": 200_000,
        "max_model_len": 200_000,
        "max_output_tokens": 8_000,
        "price_source": None,
        "capabilities": {"vision": True, "tools": ["terminal", "delegate"], "may_delegate": True},
        "limits": {"max_turns": 20, "budget_usd": "0.500000", "allowed_agents": ["openhands_a", "openhands_b"]},
    }
    assert Model.model_validate(rendered, strict=True).id == "openhands_reviewer"


def test_models_are_listed_in_order_without_paths_of_the_machine() -> None:
    plain = Profile(name="default", description="", source="environment", llm_model="m")
    listed = render_models([PROFILE, plain], created=5)
    assert listed == {"object": "list", "data": [render_model(PROFILE, created=5), render_model(plain, created=5)]}
    assert "ada" not in json.dumps(listed)


def test_a_run_is_shown_with_its_place_time_tokens_and_cost() -> None:
    assert render_run(RECORD, now=0.0) == {
        "id": "run-1",
        "object": "run",
        "tree_id": "tree-1",
        "parent_id": "run-0",
        "agent": "openhands_lead",
        "depth": 1,
        "state": "finished",
        "stop_reason": "finished",
        "error_code": None,
        "remote_run_id": None,
        "origin": None,
        "conversation_id": "0b5dd1f0-5f0c-4d0e-9a3b-0f8e3f4f2a11",
        "created_at": "2023-11-14T22:13:20.000Z",
        "started_at": "2023-11-14T22:13:20.500Z",
        "ended_at": "2023-11-14T22:13:23.750Z",
        "deadline_at": "2023-11-14T22:14:20.000Z",
        "seconds": 3.25,
        "turns": 2,
        "tokens": {"prompt": 1200, "completion": 300, "cached": 800, "reasoning": 20},
        "cost": {"self": "0.010000", "tree": "0.012300", "reserved": "0.000000", "currency": "USD", "complete": True},
        "descendants": 2,
        "limits": {
            "max_depth": 3,
            "max_breadth": 5,
            "max_runs": 50,
            "timeout_s": 60.0,
            "max_turns": 100,
            "budget_usd": "0.500000",
            "allowed_agents": ["openhands_a", "openhands_b"],
        },
    }


@pytest.mark.parametrize(("started_at", "seconds"), [(None, 0.0), (RECORD.created_at + 1, 4.0)])
def test_a_live_run_ages_from_its_start(started_at: float | None, seconds: float) -> None:
    live = replace(RECORD, state=RunState.RUNNING, started_at=started_at, ended_at=None)
    assert render_run(live, now=RECORD.created_at + 5)["seconds"] == seconds


def test_a_tree_nests_children_below_their_parents_in_order() -> None:
    root = replace(RECORD, id=RunId("root"), parent_id=None)
    first, second = (replace(RECORD, id=RunId(name), parent_id=RunId("root")) for name in ("first", "second"))
    leaf = replace(RECORD, id=RunId("leaf"), parent_id=RunId("first"))

    def node(record: object, *children: object) -> dict[str, object]:
        assert isinstance(record, type(RECORD))
        return {**render_run(record, now=0.0), "gateway": "here", "children": list(children)}

    shown_tree = node(root, node(first, node(leaf)), node(second))
    assert render_tree([root, first, second, leaf], now=0.0, gateway_id="here") == shown_tree


def test_a_subtree_may_start_below_the_root() -> None:
    assert render_tree([RECORD], now=0.0, gateway_id="here") == {**render_run(RECORD, now=0.0), "gateway": "here", "children": []}


def test_a_run_on_a_peer_is_shown_with_its_own_usage_and_the_tree_below_it() -> None:
    far_run = replace(RECORD, agent="box/openhands_a", cost_self_micro_usd=30_000, cost_tree_micro_usd=30_000)
    below = {"id": "far", "cost": {"tree": "0.012000"}}
    part = PeerReport("build-box", TokenUsage(7, 5), 2, 12_000, (below,))
    shown = render_tree([far_run], now=0.0, gateway_id="here", reports={far_run.id: part})
    itself = replace(far_run, usage=TokenUsage(7, 5), turns=2, cost_self_micro_usd=18_000)
    assert shown == {**render_run(itself, now=0.0), "gateway": "build-box", "children": [below]}


def test_a_run_on_a_peer_that_does_not_tell_says_so() -> None:
    far_run = replace(RECORD, agent="box/openhands_a")
    shown = render_tree([far_run], now=0.0, gateway_id="here", reports={far_run.id: "The peer box does not answer."})
    recorded = {**render_run(far_run, now=0.0), "gateway": "box", "children": []}
    assert shown == {**recorded, "unreachable": "The peer box does not answer."}


def test_a_tree_with_a_missing_parent_is_not_shown_as_whole() -> None:
    orphan = replace(RECORD, id=RunId("orphan"), parent_id=RunId("gone"))
    with pytest.raises(ValueError, match="gone"):
        render_tree([RECORD, orphan], now=0.0, gateway_id="here")
    with pytest.raises(ValueError):
        render_tree([], now=0.0, gateway_id="here")
