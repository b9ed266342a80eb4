"""The FastAPI application of a gateway."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import Lifespan

from a2a_gateway.server.gateway import Gateway
from a2a_gateway.server.request_log import RequestLog
from a2a_gateway.server.route_class import unknown_path
from a2a_gateway.server.routers import create_router
from a2a_gateway.settings import Settings, load_settings


def create_app(settings: Settings | None = None, environ: Mapping[str, str] | None = None) -> FastAPI:
    """Make the application of one gateway, which lives as long as the application's lifespan.

    Without `settings` they are read from the environment and `gateway.toml`; `environ` replaces the process's environment as the
    source of OpenHands' conventional variables.

    Raises:
        ConfigurationError: the settings cannot be used.
    """
    gateway = Gateway(settings or load_settings(), dict(os.environ if environ is None else environ))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            yield

    return app_of(gateway, lifespan)


def app_of(gateway: Gateway, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Make the application of a gateway that the caller enters and leaves."""
    app = FastAPI(
        title="a2a-gateway",
        summary="OpenHands agents as OpenAI-compatible models, which delegate to each other.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # they lead to http://, also behind a TLS proxy: the client would send its request unencrypted
    )
    app.include_router(create_router(gateway))
    app.add_middleware(RequestLog)
    app.add_exception_handler(HTTPException, unknown_path)
    return app
