"""The FastAPI application around the router of a gateway."""

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.types import Lifespan

from a2a_gateway.server.request_log import RequestLog
from a2a_gateway.server.route_class import unknown_path


def make_application(router: APIRouter, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Make an application that serves nothing but this router."""
    app = FastAPI(
        title="a2a-gateway",
        summary="OpenHands agents as OpenAI-compatible models, which delegate to each other.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # they lead to http://, also behind a TLS proxy: the client would send its request unencrypted
    )
    app.include_router(router)
    app.add_middleware(RequestLog)
    app.add_exception_handler(HTTPException, unknown_path)
    return app
