"""Render profiles as OpenAI's model objects, with the properties of an agent as extra fields.

The paths of a profile's file and of its workspace are left out: callers must not see the file system of the gateway's machine.
"""

from collections.abc import Sequence

from a2a_gateway.runs.model import LimitPolicy, Profile
from delegate_tool.protocol.money import format_usd


def render_model(profile: Profile, *, created: int) -> dict[str, object]:
    """Render one model. `created` is seconds since the epoch: since when it is served."""
    return {
        "id": profile.model,
        "object": "model",
        "created": created,
        "owned_by": profile.peer or "openhands",
        "description": profile.description,
        "context_length": profile.context_tokens,
        "max_model_len": profile.context_tokens,
        "max_output_tokens": profile.max_output_tokens,
        "capabilities": {"vision": profile.vision, "tools": list(profile.tools), "may_delegate": profile.may_delegate},
        "limits": _render_policy(profile.policy),
    }


def render_models(profiles: Sequence[Profile], *, created: int) -> dict[str, object]:
    """Render the list of models, in the order given."""
    return {"object": "list", "data": [render_model(profile, created=created) for profile in profiles]}


def _render_policy(policy: LimitPolicy) -> dict[str, object]:
    budget, agents = policy.budget_micro_usd, policy.allowed_agents
    limits: dict[str, object] = {
        "max_depth": policy.max_depth,
        "max_breadth": policy.max_breadth,
        "max_runs": policy.max_runs,
        "timeout_s": policy.timeout_s,
        "max_turns": policy.max_turns,
        "budget_usd": None if budget is None else format_usd(budget),
        "allowed_agents": None if agents is None else sorted(agents),
    }
    return {name: value for name, value in limits.items() if value is not None}
