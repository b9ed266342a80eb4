"""Admission: what a run gets."""

from dataclasses import replace

from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import ConversationId, RunState, SpendCaps
from delegate_tool.protocol.limits import LimitPolicy
from tests.runs.proposals import KEY, NOW, ROOT, admit_child, admit_root
from tests.support.records import make_run_record


def test_a_root_gets_the_servers_defaults() -> None:
    assert admit_root() == make_run_record(
        "new",
        key_id=KEY.id,
        agent="openhands_coder",
        depth=0,
        state=RunState.QUEUED,
        limits=Limits(
            max_depth=3,
            max_breadth=5,
            max_runs=50,
            timeout_s=1800.0,
            max_turns=100,
            budget_micro_usd=10_000_000,
            allowed_agents=None,
        ),
        deadline_at=NOW + 1800,
        task_hash="write it",
        conversation_id=ConversationId("c-new"),
        created_at=NOW,
    )


def test_a_child_gets_what_its_parent_has_left() -> None:
    parent = replace(
        ROOT,
        limits=replace(ROOT.limits, max_runs=10, budget_micro_usd=500_000, allowed_agents=frozenset({"openhands_coder"})),
        descendants=4,
        cost_tree_micro_usd=120_000,
    )
    assert admit_child(parent=parent) == make_run_record(
        "new",
        tree_id=ROOT.tree_id,
        parent_id=ROOT.id,
        key_id=KEY.id,
        agent="openhands_coder",
        depth=1,
        state=RunState.QUEUED,
        limits=Limits(
            max_depth=3,
            max_breadth=5,
            max_runs=5,
            timeout_s=990.0,
            max_turns=100,
            budget_micro_usd=355_000,  # 500,000 less what is spent, and less the 5 % for the parent's last call
            allowed_agents=frozenset({"openhands_coder"}),
        ),
        deadline_at=NOW + 990,
        task_hash="write it",
        conversation_id=ConversationId("c-new"),
        created_at=NOW,
    )


def test_a_short_remainder_keeps_five_percent_for_the_parent() -> None:
    assert admit_child(parent=replace(ROOT, deadline_at=NOW + 100)).limits.timeout_s == 95.0


def test_every_policy_narrows_and_agents_intersect() -> None:
    record = admit_child(
        LimitPolicy(max_depth=2, max_turns=7, allowed_agents=frozenset({"openhands_a", "openhands_b"})),
        LimitPolicy(max_depth=9, timeout_s=30.0, budget_micro_usd=50, allowed_agents=frozenset({"openhands_b", "openhands_c"})),
        LimitPolicy(max_breadth=2, max_runs=3),
    )
    assert record.limits == Limits(
        max_depth=2,
        max_breadth=2,
        max_runs=3,
        timeout_s=30.0,
        max_turns=7,
        budget_micro_usd=50,
        allowed_agents=frozenset({"openhands_b"}),
    )


def test_a_request_restricts_what_the_run_may_call_and_not_the_run_itself() -> None:
    record = admit_root(LimitPolicy(allowed_agents=frozenset({"openhands_reviewer"})))
    assert (record.agent, record.limits.allowed_agents) == ("openhands_coder", frozenset({"openhands_reviewer"}))


def test_a_key_bounds_its_trees_by_its_policy_and_by_what_it_has_left() -> None:
    key = replace(KEY, policy=LimitPolicy(max_depth=1), caps=SpendCaps(1_000), spent_micro_usd=400)
    assert admit_root(key=key).limits == Limits(max_depth=1, budget_micro_usd=600)


def test_no_budget_anywhere_is_no_budget() -> None:
    assert admit_root(defaults=Limits(budget_micro_usd=None)).limits.budget_micro_usd is None


def test_a_claimed_depth_raises_the_depth_and_never_lowers_it() -> None:
    assert admit_child(stated_depth=3).depth == 3
    assert admit_child(stated_depth=0).depth == 1


def test_a_run_at_the_greatest_depth_is_allowed() -> None:
    assert admit_child(parent=replace(ROOT, depth=2)).depth == 3


def test_children_on_peers_get_equal_shares() -> None:
    """Reserve each child's share, as the ledger does with all that a run on a peer may spend."""
    parent = replace(ROOT, limits=replace(ROOT.limits, max_breadth=4, budget_micro_usd=100_000))
    given_out: list[int] = []
    for siblings in range(4):
        child = admit_child(
            parent=replace(parent, reserved_micro_usd=sum(given_out)), live_siblings=siblings, agent="b/openhands_x", on_peer=True
        )
        assert child.limits.budget_micro_usd is not None
        given_out.append(child.limits.budget_micro_usd)
    assert given_out == [19_000] * 4


def test_a_child_on_a_peer_gets_what_it_is_given_by_name_and_a_root_all_there_is() -> None:
    parent = replace(ROOT, limits=replace(ROOT.limits, budget_micro_usd=100_000))
    asked = admit_child(LimitPolicy(budget_micro_usd=60_000), parent=parent, agent="b/openhands_x", on_peer=True)
    assert asked.limits.budget_micro_usd == 60_000
    assert admit_root(agent="b/openhands_x", on_peer=True).limits.budget_micro_usd == 10_000_000
