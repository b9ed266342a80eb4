"""What other gateways ask of this one."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from a2a_gateway.server.dependencies import GatewayDep
from a2a_gateway.server.route_class import GatewayRoute

router: Final = APIRouter(route_class=GatewayRoute, tags=["Peers"])


@router.get("/.well-known/jwks.json", summary="Get the key with which this gateway signs what it sends to its peers")
async def get_signing_keys(gateway: GatewayDep) -> Response:
    """Get the public key as a JSON Web Key Set. Available before the gateway is ready."""
    return JSONResponse((await gateway.signing_key()).jwks(gateway.settings.gateway_id))
