"""The gateway inside another FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint
from starlette.types import Receive, Scope, Send

from a2a_gateway import Gateway, Settings, create_router
from a2a_gateway.server.in_process import IN_PROCESS_URL, in_process_transport
from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from a2a_gateway.testing.serving import serve_app
from delegate_tool.protocol.limits import LimitPolicy
from tests.support.ask import delegation, user
from tests.support.gateway import scripted_environ
from tests.support.until import until


def test_an_application_can_be_started_again_in_another_event_loop(tmp_path: Path) -> None:
    async def ready() -> str:
        async with gateway:
            await gateway.engine()
            return gateway.state

    environ = {"OH_PERSISTENCE_DIR": str(tmp_path / "openhands")}
    gateway = Gateway(Settings(data_dir=tmp_path, profiles=(), shell_pool_size=0), environ)
    assert [asyncio.run(ready()), asyncio.run(ready())] == ["ready", "ready"]


@asynccontextmanager
async def mount(home: Path, app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application that has a gateway under `/agents`, and yield a client."""
    async with ScriptedLLM() as llm:
        environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(home / "openhands"))
        settings = Settings(
            data_dir=home, profiles=(), shell_pool_size=0, unpriced_usd_per_mtok=Decimal(0), disconnect_grace_s=0, heartbeat_s=0.2
        )
        async with Gateway(settings, environ) as gateway:
            app.include_router(create_router(gateway), prefix="/agents")
            async with serve_app(app) as url, httpx.AsyncClient(base_url=f"{url}/agents", timeout=60) as http:
                engine = await gateway.engine()
                _, key = await engine.store.keys.create_key("mine", LimitPolicy())
                http.headers["authorization"] = f"Bearer {key}"
                yield http


BODY = {"model": "openhands_default", "messages": [user("Hi", Step(content="mounted"))]}


@pytest.mark.anyio
async def test_the_router_serves_in_a_foreign_application_and_keeps_its_error_shape(tmp_path: Path) -> None:
    async with mount(tmp_path, FastAPI()) as http:
        answer = await http.post("/v1/chat/completions", json=BODY)
        nobody = await http.post("/v1/chat/completions", json=BODY, headers={"authorization": ""})
        method = await http.get("/v1/chat/completions")
        ready = await http.get("/ready")
    assert answer.json()["choices"][0]["message"]["content"] == "mounted"
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (method.status_code, method.json()["error"]["code"], method.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert ready.json() == {"status": "ready", "peers_ok": 0, "peers_down": 0, "peers": {}}


@pytest.mark.anyio
async def test_agents_delegate_in_a_mounted_gateway_that_does_not_know_its_url(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "a2a_gateway")
    child = delegation("openhands_default", "Write seven.", Step(content="Seven."))
    asked = user("Ask an agent.", Step(tool_calls=(child,)), Step(content="Result: $LAST"))
    async with mount(tmp_path, FastAPI()) as http:
        answer = await http.post("/v1/chat/completions", json={"model": "openhands_default", "messages": [asked]})
        tree = (await http.get(f"/v1/runs/{answer.headers['x-a2a-run-id']}/tree")).json()
    assert "Seven." in answer.json()["choices"][0]["message"]["content"]
    assert [(child["depth"], child["state"]) for child in tree["children"]] == [(1, "finished")]
    logged = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [event["client"] for event in logged if event["event"] == "request"][:2] == ["in-process", "127.0.0.1"]
    assert [event["url"] for event in logged if event["event"] == "gateway_starting"] == [None]


@pytest.mark.anyio
async def test_cancelling_a_run_of_a_mounted_gateway_cancels_its_child(tmp_path: Path) -> None:
    child = delegation("openhands_default", "Wait.", Step(hang=True))
    asked = {"model": "openhands_default", "messages": [user("Ask an agent.", Step(tool_calls=(child,)))], "stream": True}
    async with mount(tmp_path, FastAPI()) as http, http.stream("POST", "/v1/chat/completions", json=asked) as stream:
        run = f"/v1/runs/{stream.headers['x-a2a-run-id']}"

        async def states() -> list[str]:
            tree = (await http.get(f"{run}/tree")).json()
            return [tree["state"], *(child["state"] for child in tree["children"])]

        async def both_run() -> bool:
            return await states() == ["running", "running"]

        await until(both_run)
        await http.post(f"{run}/cancel")
        assert await states() == ["cancelled", "cancelled"]


@pytest.mark.anyio
async def test_a_call_in_the_process_inherits_no_context_and_gets_a_failure_as_a_response() -> None:
    mark = ContextVar("mark", default="none")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/broken":
            raise ValueError
        await Response(mark.get())(scope, receive, send)

    mark.set("of the caller")
    async with httpx.AsyncClient(transport=in_process_transport(app), base_url=IN_PROCESS_URL) as http:
        assert ((await http.get("/whole")).text, (await http.get("/broken")).status_code) == ("none", 500)


@pytest.mark.anyio
async def test_the_applications_middleware_sees_no_failure_where_a_client_leaves(tmp_path: Path) -> None:
    app, seen = FastAPI(), list[str]()

    @app.middleware("http")
    async def name_it(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-theirs"] = "1"
        return response

    @app.exception_handler(Exception)
    async def note(request: Request, error: Exception) -> Response:
        seen.append(repr(error))
        return Response(status_code=500)

    async with mount(tmp_path, app) as http:
        stays = {"model": "openhands_default", "messages": [user("Hi", Step(hang=True))]}
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=stays))
        await until(lambda: states_of(http))
        waiting.cancel()
        await until(lambda: are(["cancelled"], http))
        async with http.stream("POST", "/v1/chat/completions", json={**stays, "stream": True}) as stream:
            assert stream.headers["x-theirs"] == "1"
            run_id = stream.headers["x-a2a-run-id"]
        await http.post(f"/v1/runs/{run_id}/cancel")
        assert await states_of(http) == ["cancelled", "cancelled"]
    assert seen == []


async def are(states: list[str], http: httpx.AsyncClient) -> bool:
    return await states_of(http) == states


async def states_of(http: httpx.AsyncClient) -> list[str]:
    return [run["state"] for run in (await http.get("/v1/runs")).json()["data"]]
