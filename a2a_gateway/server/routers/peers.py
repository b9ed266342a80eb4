"""Endpoints for other gateways."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from a2a_gateway.server import openapi
from a2a_gateway.server.dependencies import GatewayDep
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.wire import examples
from a2a_gateway.wire.schemas import KeySetObject

router: Final = APIRouter(route_class=GatewayRoute, tags=["Peers"], responses=openapi.error_responses((500, 503)))


@router.get(
    "/.well-known/jwks.json",
    summary="Get the key with which this gateway signs what it sends to its peers",
    response_model=KeySetObject,
    responses=openapi.success("The key.", examples.KEY_SET),
)
async def get_signing_keys(gateway: GatewayDep) -> Response:
    """Get the public key as a JSON Web Key Set. Available before the gateway is ready."""
    return JSONResponse((await gateway.signing_key()).jwks(gateway.settings.gateway_id))
