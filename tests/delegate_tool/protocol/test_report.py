"""Whatever an endpoint puts into its usage, reading it never fails and never invents a cost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate_tool.protocol.report import RunReport, read_report
from delegate_tool.protocol.result import Tokens

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "prompt_tokens",
    "completion_tokens",
    "cost",
    "cost_details",
    "upstream_inference_cost",
    "is_byok",
    "total_tokens",
    "delegation",
    "self",
    "descendants",
    "complete",
    "run_id",
    "turns",
]
usages = st.dictionaries(
    st.sampled_from(NAMES),
    json_values | st.dictionaries(st.sampled_from([*NAMES, "runs", "tree_tokens", "depth", "parent"]), json_values),
)
headers = st.dictionaries(st.sampled_from(["x-a2a-cost-usd", "x-a2a-depth", "x-litellm-response-cost"]), st.text(max_size=12))


@given(headers, usages)
def test_any_usage_is_read(headers: dict[str, str], usage: dict[str, Any]) -> None:
    report = read_report(headers, usage)
    assert report.runs >= 1
    assert report.cost_micro_usd is None or report.cost_micro_usd >= 0
    assert not (report.cost_complete and report.cost_micro_usd is None)
    assert max(report.runs, report.turns or 0, report.depth or 0) <= 10**9
    assert max(report.cost_micro_usd or 0, report.tree_tokens.prompt, report.tokens.cached) <= 2 * 10**15
    assert report.run_id is None or report.run_id.isprintable()
    assert report.left is None or min(report.left.runs or 0, report.left.budget_micro_usd or 0) >= 0
    assert min(report.tokens.prompt, report.tokens.completion, report.tree_tokens.prompt, report.tree_tokens.completion) >= 0


def test_a_cost_beyond_all_reason_is_one_that_can_still_be_booked() -> None:
    for cost in (10**400, 1e300, 2e9):
        assert read_report({}, {"cost": cost}).cost_micro_usd == 10**15
    assert read_report({}, {"cost": float("inf")}).cost_micro_usd is None


def test_a_count_that_nobody_could_reach_is_unknown() -> None:
    assert read_report({}, {"prompt_tokens": 10**30, "delegation": {"runs": 10**30, "turns": 10**30}}) == RunReport()


def test_nothing_told_is_nothing_known() -> None:
    assert read_report({}, {}) == RunReport()


@pytest.mark.parametrize(
    ("usage", "micro_usd"),
    [
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0123}}, 12_300),
        ({"cost": 0.0005, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.01}}, 10_500),
        ({"cost": None, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.01}}, 10_000),
        ({"cost": 0, "cost_details": {"upstream_inference_cost": 0.01}}, 10_000),
        ({"cost": 0.001, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.001}}, 1_000),
        ({"cost": 0, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.001}}, 0),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": "0.5"}}, None),
        (
            {
                "cost": 0.001,
                "is_byok": True,
                "cost_details": {"upstream_inference_prompt_cost": 0.002, "upstream_inference_completions_cost": 0.003},
            },
            6_000,
        ),
        ({"cost": 10**400, "is_byok": True, "cost_details": {"upstream_inference_cost": 1.5}}, 10**15),
    ],
)
def test_with_a_key_of_ones_own_at_the_provider_its_price_is_added_to_the_fee(usage: dict[str, Any], micro_usd: int) -> None:
    assert read_report({}, usage).cost_micro_usd == micro_usd


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Tokens(32, 103, reasoning=94),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 200}, Tokens(10, 190)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, Tokens(10, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Tokens(10, 5, cached=8)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 800}},
            Tokens(10, 5, cached=10),
        ),
    ],
)
def test_reasoning_that_only_the_total_counts_is_output(usage: dict[str, Any], tokens: Tokens) -> None:
    assert read_report({}, usage).tokens == tokens
