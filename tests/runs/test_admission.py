"""Admission: what a run gets, and what refuses it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.admission import admit, narrow, permit_turn
from a2a_gateway.runs.budget import KEPT_BACK_PERCENT, Account, Spent, accounts_of_caps, accounts_of_path, key_owner
from a2a_gateway.runs.model import (
    ConversationId,
    KeyId,
    KeyRecord,
    LimitPolicy,
    Limits,
    RunId,
    RunRecord,
    RunState,
    SpendCaps,
    TreeId,
)
from a2a_gateway.runs.ports import RunProposal

NOW = 1_700_000_000.0
KEY = KeyRecord(KeyId("k1"), "laptop", LimitPolicy(), created_at=NOW - 1000)
ROOT = RunRecord(
    id=RunId("root"),
    tree_id=TreeId("root"),
    parent_id=None,
    key_id=KEY.id,
    agent="openhands_lead",
    depth=0,
    state=RunState.RUNNING,
    limits=Limits(),
    deadline_at=NOW + 1000,
    task_hash="build it",
    conversation_id=ConversationId("c-root"),
    created_at=NOW - 800,
)


def proposal(*policies: LimitPolicy, parent: RunRecord | None = ROOT, **changes: object) -> RunProposal:
    made = RunProposal(
        id=RunId("new"),
        parent_id=parent.id if parent else None,
        key_id=KEY.id,
        agent="openhands_coder",
        task_hash="write it",
        conversation_id=ConversationId("c-new"),
        defaults=Limits(),
        policies=policies,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of RunProposal


def accounts(ancestors: Sequence[RunRecord], key: KeyRecord) -> list[Account]:
    of_key = accounts_of_caps(key_owner(key), key.caps, Spent(key.spent_micro_usd))
    return accounts_of_path(ancestors, below=True) + of_key


def admit_below(ancestors: Sequence[RunRecord], made: RunProposal, *, key: KeyRecord = KEY, live_siblings: int = 0) -> RunRecord:
    return admit(made, ancestors=ancestors, live_siblings=live_siblings, key=key, accounts=accounts(ancestors, key), now=NOW)


def admit_child(
    *policies: LimitPolicy, parent: RunRecord = ROOT, key: KeyRecord = KEY, live_siblings: int = 0, **changes: object
) -> RunRecord:
    return admit_below([parent], proposal(*policies, parent=parent, **changes), key=key, live_siblings=live_siblings)


def admit_root(*policies: LimitPolicy, key: KeyRecord = KEY, **changes: object) -> RunRecord:
    return admit_below([], proposal(*policies, parent=None, **changes), key=key)


def test_a_root_gets_the_servers_defaults() -> None:
    assert admit_root() == RunRecord(
        id=RunId("new"),
        tree_id=TreeId("new"),
        parent_id=None,
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
    assert admit_child(parent=parent) == RunRecord(
        id=RunId("new"),
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
    assert admit_child(claimed_depth=3).depth == 3
    assert admit_child(claimed_depth=0).depth == 1


def test_the_deepest_allowed_level_is_allowed() -> None:
    assert admit_child(parent=replace(ROOT, depth=2)).depth == 3


PARENT_FACTS = {
    "depth": 1,
    "max_depth": 3,
    "runs_left": 50,
    "budget_remaining_usd": "10.000000",
    "run_id": "root",
    "tree_id": "root",
}

CHILD_REFUSALS: dict[str, tuple[dict[str, object], dict[str, object], str, str]] = {
    # situation: (of the parent, of the call, code, what the message must state)
    "the parent has ended": ({"state": RunState.FINISHED}, {}, "run_token_revoked", "Run root is finished"),
    "the parent stands on the deepest level": ({"depth": 3}, {}, "delegation_depth_exceeded", "depth 4, and 3 is the deepest"),
    "a claimed depth is too deep": ({}, {"claimed_depth": 4}, "delegation_depth_exceeded", "depth 4, and 3 is the deepest"),
    "the same agent has the same task above": (
        {"agent": "openhands_coder", "task_hash": "write it"},
        {},
        "delegation_cycle_detected",
        "openhands_coder already works on this same task at depth 0 (run root)",
    ),
    "all descendants are used": (
        {"descendants": 50},
        {},
        "delegation_runs_exhausted",
        "50 runs were opened below run root, and 50",
    ),
    "the agent is not among the parent's": (
        {"limits": Limits(allowed_agents=frozenset({"openhands_x"}))},
        {},
        "agent_not_allowed",
        "openhands_coder may not be called here. Allowed: openhands_x.",
    ),
    "the parent's children are all alive": (
        {},
        {"live_siblings": 5},
        "delegation_breadth_exceeded",
        "5 live children, and 5 is its limit",
    ),
    "the parent's budget is spent": (
        {"cost_tree_micro_usd": 10_000_001},
        {},
        "budget_exceeded",
        "10.000001 of 10.000000 USD are spent",
    ),
    "the parent's time is over": ({"deadline_at": NOW}, {}, "deadline_exceeded", "No time is left"),
}


@pytest.mark.parametrize("situation", CHILD_REFUSALS)
def test_a_child_is_refused_when(situation: str) -> None:
    of_parent, of_call, code, message = CHILD_REFUSALS[situation]
    with pytest.raises(GatewayError) as refusal:
        admit_child(parent=replace(ROOT, **of_parent), **of_call)  # type: ignore[arg-type]  # the table's fields
    assert refusal.value.code == code
    assert message in refusal.value.message
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


counts = st.integers(0, 60)
agents = st.none() | st.frozensets(st.sampled_from(["openhands_coder", "openhands_lead", "openhands_x"]))
policies = st.builds(
    LimitPolicy,
    max_depth=st.none() | counts,
    max_breadth=st.none() | st.integers(1, 60),
    max_runs=st.none() | counts,
    timeout_s=st.none() | st.floats(0.001, 1e9),
    max_turns=st.none() | st.integers(1, 1000),
    budget_micro_usd=st.none() | st.integers(0, 10**15),
    allowed_agents=agents,
)
limits = st.builds(
    Limits,
    max_depth=counts,
    max_breadth=st.integers(1, 60),
    max_runs=counts,
    timeout_s=st.floats(0.001, 1e9),
    max_turns=st.integers(1, 1000),
    budget_micro_usd=st.none() | st.integers(1, 10**15),
    allowed_agents=agents,
)
parents = st.builds(
    replace,
    st.just(ROOT),
    depth=st.integers(0, 5),
    limits=limits,
    deadline_at=st.floats(NOW - 10, NOW + 1e9),
    descendants=counts,
    cost_tree_micro_usd=st.integers(0, 10**15),
)


def is_within(inner: Limits, outer: Limits) -> bool:
    """Whether no limit of `inner` is wider than that of `outer`."""
    budget_ok = outer.budget_micro_usd is None or (
        inner.budget_micro_usd is not None and inner.budget_micro_usd <= outer.budget_micro_usd
    )
    agents_ok = outer.allowed_agents is None or (
        inner.allowed_agents is not None and inner.allowed_agents <= outer.allowed_agents
    )
    return (
        budget_ok
        and agents_ok
        and inner.max_depth <= outer.max_depth
        and inner.max_breadth <= outer.max_breadth
        and inner.max_runs <= outer.max_runs
        and inner.timeout_s <= outer.timeout_s
        and inner.max_turns <= outer.max_turns
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])  # most proposals are refused
@given(limits, st.lists(policies, max_size=4))
def test_no_policies_ever_widen_a_limit(start: Limits, asked: list[LimitPolicy]) -> None:
    narrowed = start
    for policy in asked:
        narrowed = narrow(narrowed, policy)
    assert is_within(narrowed, start)


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])  # most proposals are refused
@given(limits, policies, policies)
def test_the_order_of_policies_does_not_matter(start: Limits, first: LimitPolicy, second: LimitPolicy) -> None:
    assert narrow(narrow(start, first), second) == narrow(narrow(start, second), first)


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])  # most proposals are refused
@given(limits, policies, st.lists(policies, max_size=3), st.none() | st.integers(0, 9), st.integers(0, 10**15))
def test_an_admitted_root_stays_within_the_servers_defaults_and_its_key(
    defaults: Limits, of_key: LimitPolicy, asked: list[LimitPolicy], claimed_depth: int | None, spent: int
) -> None:
    key = replace(KEY, policy=of_key, caps=SpendCaps(total_micro_usd=2 * 10**15), spent_micro_usd=spent)
    try:
        record = admit_root(*asked, key=key, defaults=defaults, claimed_depth=claimed_depth)
    except GatewayError:
        reject()
    assert is_within(record.limits, narrow(defaults, of_key))
    assert record.depth == (claimed_depth or 0) <= record.limits.max_depth
    assert record.limits.budget_micro_usd is not None
    assert record.limits.budget_micro_usd <= 2 * 10**15 - spent


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])  # most proposals are refused
@given(parents, st.lists(policies, max_size=3), st.none() | st.integers(0, 9), st.integers(0, 6))
def test_an_admitted_child_is_deeper_shorter_and_poorer_than_its_parent(
    parent: RunRecord, asked: list[LimitPolicy], claimed_depth: int | None, live_siblings: int
) -> None:
    try:
        child = admit_child(*asked, parent=parent, claimed_depth=claimed_depth, live_siblings=live_siblings)
    except GatewayError:
        reject()
    assert is_within(replace(child.limits, timeout_s=parent.limits.timeout_s), parent.limits)
    assert parent.depth + 1 <= child.depth <= child.limits.max_depth
    assert NOW < child.deadline_at <= parent.deadline_at
    assert child.limits.max_runs < parent.limits.max_runs - parent.descendants
    assert live_siblings < parent.limits.max_breadth
    if parent.limits.budget_micro_usd is not None:
        assert child.limits.budget_micro_usd is not None
        kept_back = parent.limits.budget_micro_usd * KEPT_BACK_PERCENT // 100
        assert 0 < child.limits.budget_micro_usd <= parent.limits.budget_micro_usd - parent.cost_tree_micro_usd - kept_back


def test_children_on_peers_get_equal_shares_so_that_the_first_does_not_take_all_from_the_others() -> None:
    """Each sets its share aside, as the ledger does with all that a run on a peer may spend."""
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
