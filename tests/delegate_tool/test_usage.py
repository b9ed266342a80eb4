"""Whatever an endpoint puts into its usage, reading it never fails and never invents a cost."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from delegate_tool.result import Tokens
from delegate_tool.usage import RunReport, read_report

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["prompt_tokens", "completion_tokens", "cost", "cost_details", "delegation", "self", "descendants", "complete", "run_id"]
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
    assert report.left is None or min(report.left.runs or 0, report.left.budget_micro_usd or 0) >= 0
    assert min(report.tokens.prompt, report.tokens.completion, report.tree_tokens.prompt, report.tree_tokens.completion) >= 0


def test_nothing_told_is_nothing_known() -> None:
    assert read_report({}, {}) == RunReport()


def test_numbers_that_nothing_can_be_are_unknown() -> None:
    absurd = 10**400
    usage = {"prompt_tokens": absurd, "completion_tokens": 2, "cost": absurd, "delegation": {"runs": absurd, "turns": absurd}}
    assert read_report({"x-litellm-response-cost": "1e30"}, usage) == RunReport(
        tokens=Tokens(completion=2), tree_tokens=Tokens(completion=2)
    )
