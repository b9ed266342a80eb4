"""Render the `usage` object: OpenAI's token counts, with the cost, the limits and the tree of the run.

Tokens are those of this run and this request alone; money is exact, in decimal strings, and once more as a JSON number in `cost`.
"""

from a2a_gateway.runs.events import AgentCost, RunSummary
from a2a_gateway.runs.model import RunRecord
from delegate_tool.protocol.fields import CostField, DelegationField, UsageField
from delegate_tool.protocol.money import MICRO_PER_USD, format_usd


def render_usage(summary: RunSummary, *, gateway_id: str) -> dict[str, object]:
    """Render what a finished run used. `gateway_id` names this gateway, on which all but its peers' agents ran."""
    record = summary.record
    tokens = record.usage
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
        # Dividing two integers gives the float nearest to the true amount, whose shortest form is that amount.
        UsageField.COST: record.cost_tree_micro_usd / MICRO_PER_USD,
        UsageField.COST_DETAILS: {
            CostField.SELF: format_usd(record.cost_self_micro_usd),
            CostField.DESCENDANTS: format_usd(record.cost_tree_micro_usd - record.cost_self_micro_usd),
            CostField.CURRENCY: "USD",
            CostField.COMPLETE: record.cost_complete,
            **render_pending(record, pending=summary.pending),
            CostField.BY_AGENT: [_render_agent(cost, gateway_id) for cost in summary.by_agent],
        },
        UsageField.DELEGATION: _render_delegation(record, summary),
    }


def _render_agent(cost: AgentCost, gateway_id: str) -> dict[str, object]:
    where = gateway_of(cost.agent, gateway_id)
    return {"model": cost.agent, "gateway": where, "runs": cost.runs, "cost": format_usd(cost.cost_micro_usd)}


def gateway_of(agent: str, gateway_id: str) -> str:
    """Name the gateway on which an agent runs: the peer's, as it is called here, or this one."""
    peer, slash, _ = agent.partition("/")
    return peer if slash else gateway_id


def _render_delegation(record: RunRecord, summary: RunSummary) -> dict[str, object]:
    return {
        DelegationField.RUN_ID: record.id,
        DelegationField.TREE_ID: record.tree_id,
        DelegationField.DEPTH: record.depth,
        DelegationField.MAX_DEPTH: record.limits.max_depth,
        DelegationField.RUNS: 1 + record.descendants,
        DelegationField.TURNS: record.turns,
        DelegationField.STOP_REASON: record.stop_reason,
        DelegationField.BUDGET: _amount(record.limits.budget_micro_usd),
        DelegationField.REMAINING: _amount(summary.remaining_micro_usd),
        **render_parent(summary),
        DelegationField.TREE_TOKENS: render_tree_tokens(summary),
    }


def render_tree_tokens(summary: RunSummary) -> dict[str, int]:
    """Render the tokens of a run and all below it."""
    return {"prompt": summary.tree_usage.prompt, "completion": summary.tree_usage.completion}


def render_pending(record: RunRecord, *, pending: bool) -> dict[str, bool]:
    """Render, for a cost that is not complete, whether it may still be corrected."""
    return {} if record.cost_complete else {CostField.PENDING: pending}


def render_parent(summary: RunSummary) -> dict[str, object]:
    """Render, under `parent`, what is left to the run above, which delegated; nothing for the root of a tree."""
    left = summary.parent
    if left is None:
        return {}
    remaining = {DelegationField.REMAINING: _amount(left.budget_micro_usd), DelegationField.RUNS_LEFT: left.runs}
    return {DelegationField.PARENT: remaining}


def _amount(micro_usd: int | None) -> str | None:
    return None if micro_usd is None else format_usd(micro_usd)
