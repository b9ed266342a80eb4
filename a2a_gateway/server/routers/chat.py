"""OpenAI's chat completions."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.server.run_door import RunDoorDep
from a2a_gateway.wire.chat.presenter import ChatPresenter
from a2a_gateway.wire.chat.request import parse_chat_request

router: Final = APIRouter(route_class=GatewayRoute, tags=["OpenAI"])


@router.post("/v1/chat/completions", summary="Run an agent")
async def chat_completions(door: RunDoorDep) -> Response:
    """Run the agent that `model` names, and return its answer as a completion or as a stream of chunks."""
    chat = await door.parse(parse_chat_request)
    return await door.respond(chat.run, ChatPresenter(chat, door.gateway_id, is_for_agent=door.caller.run is not None))
