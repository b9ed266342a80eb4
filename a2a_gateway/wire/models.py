"""Render profiles as OpenAI's model objects, with the properties of an agent as extra fields.

Models are without the paths of a profile's file and of its workspace: a caller must not see the file system of the gateway's
machine. `render_profiles` is for the operator, who may.
"""

from collections.abc import Sequence
from pathlib import Path

from a2a_gateway.runs.model import Profile, ProfileProblem
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


def render_profile(profile: Profile, *, created: int) -> dict[str, object]:
    """Render one profile for the operator: the model, and where the agent comes from."""
    return {
        **render_model(profile, created=created),
        "name": profile.name,
        "llm": profile.llm_model,
        "mcp_servers": list(profile.mcp_servers),
        "source": profile.source,
    }


def render_problem(problem: ProfileProblem) -> dict[str, object]:
    """Render what is wrong with a profile, and where."""
    severity = "warning" if problem.is_warning else "error"
    return {"path": problem.path, "line": problem.line, "message": problem.message, "severity": severity, "topic": problem.topic}


def render_profiles(
    profiles: Sequence[Profile], problems: Sequence[ProfileProblem], directories: Sequence[Path], *, created: int
) -> dict[str, object]:
    """Render the profiles, what is wrong with them and with others, and the directories in which they are searched."""
    return {
        "object": "list",
        "data": [render_profile(profile, created=created) for profile in profiles],
        "problems": [render_problem(problem) for problem in problems],
        "directories": [str(directory) for directory in directories],
    }
