"""The `usage` object: OpenAI's token counts, with the money and the place of the run in its tree beside them.

Tokens are those of this run and this request alone; money is exact, in decimal strings, and once more as a JSON number in `cost`.
"""

from a2a_gateway.runs.events import AgentCost, RunSummary
from a2a_gateway.runs.model import RunRecord
from delegate_tool.money import MICRO_PER_USD, format_usd


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
        "cost": record.cost_tree_micro_usd / MICRO_PER_USD,
        "cost_details": {
            "self": format_usd(record.cost_self_micro_usd),
            "descendants": format_usd(record.cost_tree_micro_usd - record.cost_self_micro_usd),
            "currency": "USD",
            "complete": record.cost_complete,
            "by_agent": [_render_agent(cost, gateway_id) for cost in summary.by_agent],
        },
        "delegation": _render_delegation(record, summary),
    }


def _render_agent(cost: AgentCost, gateway_id: str) -> dict[str, object]:
    peer, slash, _ = cost.agent.partition("/")
    where = peer if slash else gateway_id
    return {"model": cost.agent, "gateway": where, "runs": cost.runs, "cost": format_usd(cost.cost_micro_usd)}


def _render_delegation(record: RunRecord, summary: RunSummary) -> dict[str, object]:
    budget, remaining = record.limits.budget_micro_usd, summary.remaining_micro_usd
    return {
        "run_id": record.id,
        "tree_id": record.tree_id,
        "depth": record.depth,
        "max_depth": record.limits.max_depth,
        "runs": 1 + record.descendants,
        "turns": record.turns,
        "stop_reason": record.stop_reason,
        "budget": None if budget is None else format_usd(budget),
        "remaining": None if remaining is None else format_usd(remaining),
        "tree_tokens": {"prompt": summary.tree_usage.prompt, "completion": summary.tree_usage.completion},
    }
