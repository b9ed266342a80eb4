"""An OpenHands tool with which an agent delegates to other agents, and the same as a function for scripts.

Names are imported when they are first used, because the OpenAI client and the OpenHands SDK take seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from delegate_tool.binding import BoundClient, use_binding
    from delegate_tool.client import adelegate, delegate
    from delegate_tool.definition import DelegationTool, register
    from delegate_tool.protocol.context import DelegationBinding, DelegationContext
    from delegate_tool.protocol.result import DelegationResult, DelegationStatus

__all__ = [
    "BoundClient",
    "DelegationBinding",
    "DelegationContext",
    "DelegationResult",
    "DelegationStatus",
    "DelegationTool",
    "adelegate",
    "delegate",
    "register",
    "use_binding",
]

_HOMES: Final = {
    "BoundClient": "binding",
    "DelegationBinding": "protocol.context",
    "DelegationContext": "protocol.context",
    "DelegationResult": "protocol.result",
    "DelegationStatus": "protocol.result",
    "DelegationTool": "definition",
    "adelegate": "client",
    "delegate": "client",
    "register": "definition",
    "use_binding": "binding",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
