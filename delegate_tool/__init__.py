"""An OpenHands tool with which an agent delegates to other agents, and the same as a function for scripts.

Names are imported when they are first used, because the OpenAI client and the OpenHands SDK take seconds to import.

A script that uses `register` imports it before `openhands.sdk`: `sdk_import` has the reason.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from delegate_tool.sdk_import import import_sdk

if TYPE_CHECKING:
    from delegate_tool.binding import BoundClient, use_binding
    from delegate_tool.definition import DelegationTool, register
    from delegate_tool.protocol.context import DelegationBinding, DelegationContext
    from delegate_tool.protocol.result import DelegationError, DelegationResult, DelegationStatus
    from delegate_tool.script import adelegate, delegate

__all__ = [
    "BoundClient",
    "DelegationBinding",
    "DelegationContext",
    "DelegationError",
    "DelegationResult",
    "DelegationStatus",
    "DelegationTool",
    "adelegate",
    "delegate",
    "register",
    "use_binding",
]

_SDK_HOMES: Final = frozenset({"definition"})
"""Modules that import the OpenHands SDK."""
_HOMES: Final = {
    "BoundClient": "binding",
    "DelegationBinding": "protocol.context",
    "DelegationContext": "protocol.context",
    "DelegationError": "protocol.result",
    "DelegationResult": "protocol.result",
    "DelegationStatus": "protocol.result",
    "DelegationTool": "definition",
    "adelegate": "script",
    "delegate": "script",
    "register": "definition",
    "use_binding": "binding",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] in _SDK_HOMES:
        import_sdk()
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
