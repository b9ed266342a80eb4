"""FastAPI dependencies of all doors: the gateway, its engine, the caller, and the run that a path names.

`provide` puts the gateway into each request of a router, so that the doors are plain module-level routers. The security schemes
only document the credentials, and give /docs its authorize button: `auth` checks them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from a2a_gateway.errors import AuthenticationError
from a2a_gateway.runs.model import RunRecord
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.server.bodies import Bodies
from a2a_gateway.server.gateway import Engine, Gateway
from a2a_gateway.server.origin import ConnectionEnds
from a2a_gateway.server.request_log import notes_of

_BEARER = HTTPBearer(
    scheme_name="ApiKey",
    description="A key of `a2a-gateway keys create`. An agent sends the token of its run instead, and a peer its grant.",
    auto_error=False,
)
_SESSION_KEY = APIKeyHeader(
    name="X-Session-API-Key",
    scheme_name="SessionApiKey",
    description="The same key in the header of OpenHands' agent server.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class DoorContext:
    """What the doors of one gateway share."""

    gateway: Gateway
    bodies: Bodies


def provide(gateway: Gateway) -> Callable[[Request], Awaitable[None]]:
    """Return the dependency that puts a gateway into each request."""
    settings = gateway.settings
    context = DoorContext(gateway, Bodies(settings.body_limit_bytes, settings.body_memory_bytes, settings.queue_timeout_s))

    async def put_context(request: Request) -> None:
        request.state.a2a_gateway = context

    return put_context


def context_of(request: Request) -> DoorContext:
    """Return what the doors share; a router of `create_router` has put it into the request."""
    return cast(DoorContext, request.state.a2a_gateway)


async def get_gateway(request: Request) -> Gateway:
    """Return the gateway, which may still be starting."""
    return context_of(request).gateway


async def get_engine(request: Request) -> Engine:
    """Return the engine, once it is ready."""
    return await context_of(request).gateway.engine()


async def get_run_starter(
    request: Request,
    engine: Annotated[Engine, Depends(get_engine)],
    _bearer: Annotated[object, Security(_BEARER)],
    _session_key: Annotated[object, Security(_SESSION_KEY)],
) -> Caller:
    """Authenticate a caller that may start a run: a key, a run, or a peer with a grant."""
    caller = await engine.auth.authenticate(request.headers, ConnectionEnds.of(request.scope))
    notes_of(request.scope).caller = caller
    return caller


async def get_caller(caller: Annotated[Caller, Depends(get_run_starter)]) -> Caller:
    """Authenticate a caller that may ask about runs and models: any but a peer with a grant."""
    if caller.grant is not None:
        raise AuthenticationError("A grant opens one run, and is valid for nothing else.")
    return caller


async def get_visible_run(
    request: Request, run_id: str, engine: Annotated[Engine, Depends(get_engine)], caller: Annotated[Caller, Depends(get_caller)]
) -> RunRecord:
    """Return the run that the path names, if the caller may see it."""
    run = await engine.auth.visible_run(caller, run_id)
    notes_of(request.scope).run_id = run.id
    return run


GatewayDep = Annotated[Gateway, Depends(get_gateway)]
EngineDep = Annotated[Engine, Depends(get_engine)]
RunStarterDep = Annotated[Caller, Depends(get_run_starter)]
CallerDep = Annotated[Caller, Depends(get_caller)]
VisibleRunDep = Annotated[RunRecord, Depends(get_visible_run)]
