"""Keep the SDK from loading code and text that it finds in a workspace, or in the home of the gateway's user.

A profile defines an agent completely. The SDK is made for one user on a machine of their own, and adds what it finds: plugins
with hooks that run commands, skills, sub-agents, memory, an identity file. In a workspace, another agent may have written them.
Most of these loaders have no switch, and the default of a switch may change. So the loaders are replaced, where the SDK looks
them up, for every conversation of the process: a loader cannot know whose conversation it serves.

Pinned to openhands-sdk 1.58; `tests/agents/sdk_patches/test_ambient_sources.py` plants each of them, and fails if a version loads
one again.
"""

from collections.abc import Callable
from typing import Final

from a2a_gateway.agents.sdk_patches.patching import Patch


def _no_mapping(*_: object, **__: object) -> dict[str, object]:
    return {}


def _no_list(*_: object, **__: object) -> list[str]:
    return []


def _false(*_: object, **__: object) -> bool:
    return False


def _no_memory(*_: object, **__: object) -> None:
    return None


def _default_identity() -> str:
    from openhands.sdk.agent.base import _DEFAULT_SOUL

    return _DEFAULT_SOUL


def _close(module: str, loader: str, replacement: Callable[..., object]) -> Patch:
    return Patch(module, loader, lambda _: replacement)


_CONVERSATION: Final = "openhands.sdk.conversation.impl.local_conversation"
AMBIENT_SOURCES: Final = (
    # .openhands/plugins and .agents/plugins of workspace and home: skills, MCP servers, and hooks that run immediately
    _close(_CONVERSATION, "load_available_plugins", _no_mapping),
    # .openhands/agents and .agents/agents of workspace and home, registered for the whole process
    _close(_CONVERSATION, "register_file_agents", _no_list),
    # AGENTS.md and similar files, SKILL.md with inline commands, and path rules of the workspace
    _close(_CONVERSATION, "load_available_skills", _no_mapping),
    # the same of the home and, over the network, the public skills
    _close("openhands.sdk.context.agent_context", "load_available_skills", _no_mapping),
    # .openhands/memory/MEMORY.md of workspace and home
    _close(_CONVERSATION, "load_memory", _no_memory),
    # saved LLM profiles of the home: a tool sends images to one of them, without the meter
    _close("openhands.sdk.agent.base", "has_vision_profile_available", _false),
    # ~/.openhands/SOUL.md, which replaces the agent's identity
    _close("openhands.sdk.agent.base", "_load_soul_md", _default_identity),
)
