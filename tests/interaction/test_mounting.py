"""The gateway inside somebody else's FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from a2a_gateway import Gateway, Settings, create_router
from a2a_gateway.runs.model import LimitPolicy
from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from a2a_gateway.testing.serving import serve_app
from tests.support.ask import user
from tests.support.gateway import scripted_environ


def test_an_application_can_be_started_again_in_another_event_loop(tmp_path: Path) -> None:
    async def ready() -> str:
        async with gateway:
            await gateway.engine()
            return gateway.state

    environ = {"OH_PERSISTENCE_DIR": str(tmp_path / "openhands")}
    gateway = Gateway(Settings(data_dir=tmp_path, profiles=(), shell_pool_size=0), environ)
    assert [asyncio.run(ready()), asyncio.run(ready())] == ["ready", "ready"]


@pytest.mark.anyio
async def test_the_router_serves_in_a_foreign_application_and_keeps_its_error_shape(tmp_path: Path) -> None:
    async with ScriptedLLM() as llm:
        environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(tmp_path / "openhands"))
        gateway = Gateway(Settings(data_dir=tmp_path, profiles=(), shell_pool_size=0, unpriced_usd_per_mtok=Decimal(0)), environ)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with gateway:
                yield

        app = FastAPI(lifespan=lifespan)
        app.include_router(create_router(gateway), prefix="/agents")
        async with lifespan(app), serve_app(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
            engine = await gateway.engine()
            _, key = await engine.store.keys.create_key("mine", LimitPolicy())
            body = {"model": "openhands_default", "messages": [user("Hi", Step(content="mounted"))]}
            answer = await http.post("/agents/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
            nobody = await http.post("/agents/v1/chat/completions", json=body)
            ready = await http.get("/agents/ready")
    assert answer.json()["choices"][0]["message"]["content"] == "mounted"
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
    assert ready.json() == {"status": "ready", "peers": {}}
