"""Limits only ever become narrower, whatever a caller asks for."""

from dataclasses import replace

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.budget import KEPT_BACK_PERCENT
from a2a_gateway.runs.limits import Limits, narrow
from a2a_gateway.runs.model import RunRecord, SpendCaps
from delegate_tool.protocol.limits import LimitPolicy
from tests.runs.proposals import KEY, NOW, ROOT, admit_child, admit_root

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
    """Return whether no limit of `inner` is wider than that of `outer`."""
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
    defaults: Limits, of_key: LimitPolicy, asked: list[LimitPolicy], stated_depth: int | None, spent: int
) -> None:
    key = replace(KEY, policy=of_key, caps=SpendCaps(total_micro_usd=2 * 10**15), spent_micro_usd=spent)
    try:
        record = admit_root(*asked, key=key, defaults=defaults, stated_depth=stated_depth)
    except GatewayError:
        reject()
    assert is_within(record.limits, narrow(defaults, of_key))
    assert record.depth == (stated_depth or 0) <= record.limits.max_depth
    assert record.limits.budget_micro_usd is not None
    assert record.limits.budget_micro_usd <= 2 * 10**15 - spent


@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])  # most proposals are refused
@given(parents, st.lists(policies, max_size=3), st.none() | st.integers(0, 9), st.integers(0, 6))
def test_an_admitted_child_is_deeper_shorter_and_poorer_than_its_parent(
    parent: RunRecord, asked: list[LimitPolicy], stated_depth: int | None, live_siblings: int
) -> None:
    try:
        child = admit_child(*asked, parent=parent, stated_depth=stated_depth, live_siblings=live_siblings)
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
