"""OpenAI's chat completions."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from a2a_gateway.server import openapi
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.server.run_door import RunDoorDep
from a2a_gateway.wire.chat import examples
from a2a_gateway.wire.chat.presenter import ChatPresenter
from a2a_gateway.wire.chat.request import parse_chat_request
from a2a_gateway.wire.chat.schemas import CompletionObject, request_schema

router: Final = APIRouter(route_class=GatewayRoute, tags=["OpenAI"], responses=openapi.error_responses())

_REQUEST: Final = {
    "required": True,
    "description": "OpenAI's request, with `a2a` for the values of the X-A2A-* headers. X-A2A-Ignored names ignored fields.",
    "content": {"application/json": {"schema": request_schema(), "example": examples.REQUEST}},
}
_RESPONSE: Final = {
    "description": "The answer; with `stream`, chunks that end with `[DONE]`, or with an error if the run fails.",
    "content": {
        **openapi.json_content(examples.COMPLETION),
        **openapi.event_stream_content(examples.CHUNKS),
    },
}


@router.post(
    "/v1/chat/completions",
    summary="Run an agent",
    response_model=CompletionObject,
    responses={200: _RESPONSE},
    openapi_extra={"requestBody": _REQUEST},
)
async def chat_completions(door: RunDoorDep) -> Response:
    """Run the agent that `model` names, and return its answer as a completion or as a stream of chunks."""
    chat = await door.parse(parse_chat_request)
    return await door.respond(chat.run, ChatPresenter(chat, door.gateway_id, is_for_agent=door.caller.run is not None))
