"""Render profiles as OpenAI's model objects, with the properties of an agent as extra fields.

The paths of a profile's file and of its workspace are left out: callers must not see the file system of the gateway's machine.
"""

from collections.abc import Sequence

from a2a_gateway.runs.model import Profile
from delegate_tool.protocol.limits import render_limits


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
        "price_source": profile.price_source,
        "capabilities": {"vision": profile.vision, "tools": list(profile.tools), "may_delegate": profile.may_delegate},
        "limits": {name: value for name, value in render_limits(profile.policy).items() if value is not None},
    }


def render_models(profiles: Sequence[Profile], *, created: int) -> dict[str, object]:
    """Render the list of models, in the order given."""
    return {"object": "list", "data": [render_model(profile, created=created) for profile in profiles]}
