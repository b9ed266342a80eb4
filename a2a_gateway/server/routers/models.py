"""OpenAI's list of models: the agents that a caller may run."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.proposal import find_profile
from a2a_gateway.server import openapi
from a2a_gateway.server.dependencies import CallerDep, EngineDep
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.wire import examples
from a2a_gateway.wire.models import render_model, render_models
from a2a_gateway.wire.schemas import ModelListObject, ModelObject
from delegate_tool.protocol.values import full_model_id

_ERRORS: Final = openapi.error_responses(openapi.QUERY_ERRORS)
router: Final = APIRouter(route_class=GatewayRoute, tags=["OpenAI"], responses=_ERRORS)


@router.get(
    "/v1/models",
    summary="List the agents that the caller may run",
    response_model=ModelListObject,
    responses=openapi.success("The agents.", examples.MODELS),
)
async def list_models(engine: EngineDep, caller: CallerDep) -> Response:
    """List the agents that the caller's key, and its run, may call."""
    profiles = [profile for profile in engine.profiles.list() if caller.may_call(profile.model)]
    return JSONResponse(render_models(profiles, created=engine.started_at))


@router.get(
    "/v1/models/{model:path}",
    summary="Describe one agent",
    response_model=ModelObject,
    responses=openapi.success("The agent.", examples.MODEL),
)
async def get_model(model: str, engine: EngineDep, caller: CallerDep) -> Response:
    """Describe one agent: its tools, its context length and its limits."""
    if not caller.may_call(full_model_id(model)):
        raise ModelNotFound(f"There is no model {model[:200]!r} for you; GET /v1/models lists them.", param="model")
    return JSONResponse(render_model(find_profile(model, caller, engine.profiles), created=engine.started_at))
