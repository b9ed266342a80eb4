"""Make a gateway with an application of its own."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Lifespan

from a2a_gateway.server.application import make_application
from a2a_gateway.server.gateway import Gateway
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
    return make_application(create_router(gateway), lifespan)
