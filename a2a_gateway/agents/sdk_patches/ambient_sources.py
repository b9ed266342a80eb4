"""Closes every door through which the SDK reads instructions or code from a workspace or from the user's home.

A gateway's agent is what its profile says. The SDK, made for one user at his own machine, adds what it finds lying about:
plugins with hooks that run commands, skills, sub-agents, memory, an identity file. In a workspace these were written by another
agent. Where the SDK has a switch its default is not ours to rely on, and for most it has none, so the loaders are replaced
where the SDK looks them up.

Pinned to openhands-sdk 1.58; `tests/agents/sdk_patches/test_ambient_sources.py` plants each of them and fails if a version
opens one again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from a2a_gateway.errors import ConfigurationError


def _no_mapping(*_: object, **__: object) -> dict[str, object]:
    return {}


def _no_list(*_: object, **__: object) -> list[str]:
    return []


def _nothing(*_: object, **__: object) -> bool:
    return False


def _no_memory(*_: object, **__: object) -> None:
    return None


def _default_identity() -> str:
    from openhands.sdk.agent.base import _DEFAULT_SOUL

    return _DEFAULT_SOUL


@dataclass(frozen=True, slots=True)
class Door:
    """A loader of the SDK, by the module that looks it up, and what stands there instead."""

    module: str
    attribute: str
    replacement: Callable[..., object]

    def close(self) -> None:
        """Replace the loader, for the whole process. Idempotent.

        Raises:
            ConfigurationError: the installed SDK has no such loader, so it is not known what it reads.
        """
        module = import_module(self.module)
        if not hasattr(module, self.attribute):
            raise ConfigurationError(
                f"{self.module} has no {self.attribute}: this OpenHands SDK is not the tested one, and may run what it finds in "
                "a workspace. Install the openhands-sdk version that this gateway pins."
            )
        setattr(module, self.attribute, self.replacement)


_CONVERSATION: Final = "openhands.sdk.conversation.impl.local_conversation"
_DOORS: Final = (
    # .openhands/plugins and .agents/plugins of workspace and home: skills, MCP servers, and hooks that run at once
    Door(_CONVERSATION, "load_available_plugins", _no_mapping),
    # .openhands/agents and .agents/agents of workspace and home, registered for the whole process
    Door(_CONVERSATION, "register_file_agents", _no_list),
    # AGENTS.md and its like, SKILL.md with inline commands, path rules: of the workspace
    Door(_CONVERSATION, "load_available_skills", _no_mapping),
    # the same of the home and, over the network, the public ones
    Door("openhands.sdk.context.agent_context", "load_available_skills", _no_mapping),
    # .openhands/memory/MEMORY.md of workspace and home
    Door(_CONVERSATION, "load_memory", _no_memory),
    # saved LLM profiles of the home, for a tool that looks at images with one of them, past the meter
    Door("openhands.sdk.agent.base", "has_vision_profile_available", _nothing),
    # ~/.openhands/SOUL.md, which replaces the agent's identity
    Door("openhands.sdk.agent.base", "_load_soul_md", _default_identity),
)


def close_ambient_sources() -> None:
    """Close every door, for the whole process; call it before the first conversation. Idempotent.

    Raises:
        ConfigurationError: the installed SDK is not the one that this was written for.
    """
    for door in _DOORS:
        door.close()
