"""The endpoints, one module per door. A door is a module here with a `router`, registered by its name in `_DOORS`.

A door that starts runs adds a folder in `wire` with a parser and a `Presenter`, and an endpoint here with `RunDoorDep`.
Its errors have OpenAI's shape, unless its router has a subclass of `GatewayRoute` with another `render_error`.
"""

from importlib import import_module
from typing import Final

from fastapi import APIRouter, Depends

from a2a_gateway.server.application import make_application
from a2a_gateway.server.dependencies import provide
from a2a_gateway.server.gateway import Gateway
from a2a_gateway.server.route_class import GatewayRoute

_DOORS: Final = ("chat", "models", "profiles", "runs", "peers", "health")


def create_router(gateway: Gateway) -> APIRouter:
    """Make the router of a gateway, to be included in any FastAPI application that enters the gateway in its lifespan.

    The gateway's own agents call it through the same router, in the process, unless it listens itself.
    """
    router = APIRouter(route_class=GatewayRoute, dependencies=[Depends(provide(gateway))])
    for name in _DOORS:
        router.include_router(import_module(f"{__name__}.{name}").router)
    gateway.app = make_application(router)
    return router
