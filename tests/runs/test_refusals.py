"""Admission: what refuses a run, or its next turn, with which code and details."""

from dataclasses import replace

import pytest

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.admission import permit_turn
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import RunId, RunState, SpendCaps
from delegate_tool.protocol.limits import LimitPolicy
from tests.runs.proposals import KEY, NOW, ROOT, admit_below, admit_child, admit_root, proposal

PARENT_FACTS = {
    "depth": 1,
    "max_depth": 3,
    "runs_left": 50,
    "budget_remaining_usd": "10.000000",
    "run_id": "root",
    "tree_id": "root",
}

CHILD_REFUSALS: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    # situation: (of the parent, of the call, code)
    "the parent has ended": ({"state": RunState.FINISHED}, {}, "run_token_revoked"),
    "the parent is at the greatest depth": ({"depth": 3}, {}, "delegation_depth_exceeded"),
    "a claimed depth is too deep": ({}, {"stated_depth": 4}, "delegation_depth_exceeded"),
    "the same agent has the same task above": (
        {"agent": "openhands_coder", "task_hash": "write it"},
        {},
        "delegation_cycle_detected",
    ),
    "all descendants are used": ({"descendants": 50}, {}, "delegation_runs_exhausted"),
    "the agent is not among the parent's": (
        {"limits": Limits(allowed_agents=frozenset({"openhands_x"}))},
        {},
        "agent_not_allowed",
    ),
    "the parent's children are all alive": ({}, {"live_siblings": 5}, "delegation_breadth_exceeded"),
    "the parent's budget is spent": ({"cost_tree_micro_usd": 10_000_001}, {}, "budget_exceeded"),
    "the parent's time is over": ({"deadline_at": NOW}, {}, "deadline_exceeded"),
}


@pytest.mark.parametrize("situation", CHILD_REFUSALS)
def test_a_child_is_refused_when(situation: str) -> None:
    of_parent, of_call, code = CHILD_REFUSALS[situation]
    with pytest.raises(GatewayError) as refusal:
        admit_child(parent=replace(ROOT, **of_parent), **of_call)  # type: ignore[arg-type]  # the table's fields
    assert refusal.value.code == code
    assert {"run_id": "root", "tree_id": "root"}.items() <= refusal.value.details.items()


def test_a_refusal_tells_programs_what_is_left() -> None:
    with pytest.raises(GatewayError) as refusal:
        admit_child(live_siblings=5)
    assert (refusal.value.details, refusal.value.retry_after_s) == (PARENT_FACTS, 1.0)


def test_a_limit_of_any_ancestor_refuses_the_child() -> None:
    middle = replace(ROOT, id=RunId("middle"), parent_id=ROOT.id, depth=1, agent="openhands_a")
    for root, code in (
        (replace(ROOT, state=RunState.CANCELLED), "run_token_revoked"),
        (replace(ROOT, descendants=50), "delegation_runs_exhausted"),
        (replace(ROOT, cost_tree_micro_usd=10_000_000), "budget_exceeded"),
        (replace(ROOT, agent="openhands_coder", task_hash="write it"), "delegation_cycle_detected"),
    ):
        with pytest.raises(GatewayError) as refusal:
            admit_below([root, middle], proposal(parent=middle))
        assert refusal.value.code == code


def test_a_key_refuses_a_root_when_it_is_revoked_spent_or_not_for_this_agent() -> None:
    for key, code in (
        (replace(KEY, revoked_at=NOW), "invalid_api_key"),
        (replace(KEY, caps=SpendCaps(5), spent_micro_usd=5), "budget_exceeded"),
        (replace(KEY, policy=LimitPolicy(allowed_agents=frozenset())), "agent_not_allowed"),
    ):
        with pytest.raises(GatewayError) as refusal:
            admit_root(key=key)
        assert refusal.value.code == code


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(GatewayError) as refusal:
        admit_root(LimitPolicy(budget_micro_usd=0))
    assert refusal.value.code == "budget_exceeded"


def test_a_run_may_go_on_until_its_time_is_over_or_it_or_a_run_above_it_has_ended() -> None:
    run = replace(ROOT, id=RunId("run"), parent_id=ROOT.id, depth=1)
    permit_turn([ROOT, run], key=KEY, now=NOW)
    for path, key, code in (
        ([ROOT, replace(run, state=RunState.CANCELLED)], KEY, "run_cancelled"),
        ([replace(ROOT, state=RunState.FAILED), run], KEY, "run_cancelled"),
        ([ROOT, run], replace(KEY, revoked_at=NOW), "run_cancelled"),
        ([ROOT, replace(run, deadline_at=NOW)], KEY, "deadline_exceeded"),
    ):
        with pytest.raises(GatewayError) as refusal:
            permit_turn(path, key=key, now=NOW)
        assert (refusal.value.code, refusal.value.details["run_id"]) == (code, "run")
