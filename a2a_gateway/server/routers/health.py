"""Health and readiness: whether the process answers, and whether it accepts runs."""

from collections import Counter
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from a2a_gateway.errors import GatewayError
from a2a_gateway.server import openapi
from a2a_gateway.server.dependencies import GatewayDep
from a2a_gateway.server.gateway import Engine
from a2a_gateway.server.origin import ConnectionEnds
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.wire import examples
from a2a_gateway.wire.schemas import HealthObject, ReadinessObject

router: Final = APIRouter(route_class=GatewayRoute, tags=["Health"])

_NOT_READY: Final = {
    "model": ReadinessObject,
    "description": "Runs are not accepted.",
    "content": openapi.json_content({"status": "starting"}),
}


@router.get(
    "/health",
    summary="Check that the process answers",
    response_model=HealthObject,
    responses=openapi.success("It does.", examples.HEALTH),
)
async def get_health() -> Response:
    """Check that the process answers. Needs no key."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/ready",
    summary="Check that runs are accepted",
    response_model=ReadinessObject,
    responses={**openapi.success("They are.", examples.READINESS), 503: _NOT_READY},
)
async def get_readiness(request: Request, gateway: GatewayDep) -> Response:
    """Check that runs are accepted. Needs no key; with one, the response names the peers."""
    state = gateway.state
    if state != "ready":
        return JSONResponse({"status": state}, 503)
    engine = gateway.started.result()
    peers = dict(engine.directory.states())
    counts = Counter("ok" if peer == "ok" else "down" for peer in peers.values())
    body = {"status": state, "peers_ok": counts["ok"], "peers_down": counts["down"]}
    # Which gateways this one calls, and their states, are for its own callers only.
    return JSONResponse({**body, "peers": peers} if await _has_key(engine, request) else body)


async def _has_key(engine: Engine, request: Request) -> bool:
    """Return whether a request has a valid key. A request with an invalid one gets the response of a request without."""
    try:
        caller = await engine.auth.authenticate(request.headers, ConnectionEnds.of(request.scope))
    except GatewayError:
        return False
    return caller.run is None and caller.grant is None
