"""A gateway that serves OpenHands agents as OpenAI-compatible models, which delegate to each other.

Names are imported at their first use, because FastAPI and the OpenHands SDK take seconds to import.

To mount it in an application of your own, enter a `Gateway` in the application's lifespan and include `create_router(gateway)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from a2a_gateway.errors import GatewayError
    from a2a_gateway.server.app import create_app
    from a2a_gateway.server.gateway import Gateway
    from a2a_gateway.server.routers import create_router
    from a2a_gateway.settings import Settings, load_settings

__all__ = ["Gateway", "GatewayError", "Settings", "create_app", "create_router", "load_settings"]

_HOMES: Final = {
    "Gateway": "server.gateway",
    "GatewayError": "errors",
    "Settings": "settings",
    "create_app": "server.app",
    "create_router": "server.routers",
    "load_settings": "settings",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
