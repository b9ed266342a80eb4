"""The profiles behind the models, for the operator: their files, and what is wrong with them."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from a2a_gateway.errors import AdmissionError
from a2a_gateway.server import openapi
from a2a_gateway.server.dependencies import CallerDep, EngineDep, GatewayDep
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.wire import examples
from a2a_gateway.wire.models import render_profiles
from a2a_gateway.wire.schemas import ProfileListObject

_ERRORS: Final = openapi.error_responses(openapi.QUERY_ERRORS)
router: Final = APIRouter(route_class=GatewayRoute, tags=["Profiles"], responses=_ERRORS)


@router.get(
    "/v1/profiles",
    summary="List the profiles of this gateway, and what is wrong with them",
    response_model=ProfileListObject,
    responses=openapi.success("The profiles.", examples.PROFILES),
)
async def list_profiles(gateway: GatewayDep, engine: EngineDep, caller: CallerDep) -> Response:
    """List the profiles with their files, and the problems of those that cannot be used.

    Only for keys that may call every agent: not for agents, not for peers, and not for keys with `allowed_agents`.
    """
    if caller.run is not None or caller.asks_as is not None or caller.key.policy.allowed_agents is not None:
        raise AdmissionError("Only a key that may call every agent can list profiles. GET /v1/models lists your agents.")
    problems = engine.profiles.problems()  # first, because it looks at the files again
    own = [profile for profile in engine.profiles.list() if profile.peer is None]
    return JSONResponse(render_profiles(own, problems, gateway.settings.profile_dirs, created=engine.started_at))
