"""OpenAI's list of models: the agents that a caller may run."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from a2a_gateway.errors import ModelNotFound
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.server import openapi
from a2a_gateway.server.dependencies import CallerDep, EngineDep
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.wire import examples
from a2a_gateway.wire.models import render_model, render_models
from a2a_gateway.wire.schemas import ModelListObject, ModelObject

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
    profiles = [profile for profile in engine.profiles.list() if _may_call(caller, profile.model)]
    return JSONResponse(render_models(profiles, created=engine.started_at))


@router.get(
    "/v1/models/{model:path}",
    summary="Describe one agent",
    response_model=ModelObject,
    responses=openapi.success("The agent.", examples.MODEL),
)
async def get_model(model: str, engine: EngineDep, caller: CallerDep) -> Response:
    """Describe one agent: its tools, its context length and its limits."""
    if not _may_call(caller, model):
        raise ModelNotFound(f"There is no model {model[:200]!r} for you; GET /v1/models lists them.", param="model")
    return JSONResponse(render_model(engine.profiles.get(model), created=engine.started_at))


def _may_call(caller: Caller, model: str) -> bool:
    """Return whether the caller's key, and the run for which it calls, allow a model."""
    policies = [caller.key.policy.allowed_agents]
    if caller.run is not None:
        policies.append(caller.run.limits.allowed_agents)
    return all(allowed is None or model in allowed for allowed in policies)
