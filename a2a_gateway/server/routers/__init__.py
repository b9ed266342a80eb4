"""The endpoints, one module per door. A door is a module with a `router`, registered in `_DOORS`.

A door that starts runs adds, beside its module here, a folder in `wire` with a parser and a `Presenter`, and uses `RunDoorDep`.
"""

from typing import Final

from fastapi import APIRouter, Depends

from a2a_gateway.server.dependencies import provide
from a2a_gateway.server.gateway import Gateway
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.server.routers import chat, health, models, peers, runs

_DOORS: Final = (chat, models, runs, peers, health)


def create_router(gateway: Gateway) -> APIRouter:
    """Return the router of a gateway, to be included in any FastAPI application that enters the gateway in its lifespan."""
    router = APIRouter(route_class=GatewayRoute, dependencies=[Depends(provide(gateway))])
    for door in _DOORS:
        router.include_router(door.router)
    return router
