"""The endpoints: thin, each from a request to one call of the layers below."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from a2a_gateway.errors import AuthenticationError, CapacityExceeded, GatewayError, ModelNotFound, RequestError, RunNotFound
from a2a_gateway.runs.model import LIVE_STATES, RunRecord, RunRequest
from a2a_gateway.runs.proposal import SELF, Caller
from a2a_gateway.server.bodies import Bodies
from a2a_gateway.server.gateway import Engine, Gateway
from a2a_gateway.server.origin import Connection
from a2a_gateway.server.route_class import GatewayRoute, error_response
from a2a_gateway.server.run_events import RunEventsResponse, first_wanted
from a2a_gateway.server.run_response import RunResponse
from a2a_gateway.wire.chat.request import parse_chat_request
from a2a_gateway.wire.models import render_model, render_models
from a2a_gateway.wire.outcome import render_outcome
from a2a_gateway.wire.run_events import render_answer
from a2a_gateway.wire.run_view import RunNode, render_run, render_tree
from a2a_gateway.wire.usage import render_tree_tokens

_QUICK_BYTES: Final = 64 * 1024
_SCHEMA_CHECK_S: Final = 10.0
_CHAT_BODY = {
    "requestBody": {
        "required": True,
        "description": "OpenAI's chat completion request; `a2a` may hold what the X-A2A-* headers say.",
        "content": {"application/json": {"schema": {"type": "object", "required": ["model", "messages"]}}},
    }
}


def create_router(gateway: Gateway) -> APIRouter:
    """Make the router of a gateway, to be included in any FastAPI application that enters the gateway in its lifespan."""
    router = APIRouter(route_class=GatewayRoute)
    settings = gateway.settings
    bodies = Bodies(settings.body_limit_bytes, settings.body_memory_bytes, settings.queue_timeout_s)

    async def admit(request: Request, *, to_run: bool = False) -> tuple[Engine, Caller]:
        engine = await gateway.engine()
        caller = await engine.auth.authenticate(request.headers, Connection.of(request.scope))
        if caller.grant is not None and not to_run:
            raise AuthenticationError("A grant opens one run, and is good for nothing else.")
        return engine, caller

    @router.post("/v1/chat/completions", tags=["OpenAI"], summary="Run an agent", openapi_extra=_CHAT_BODY)
    async def chat_completions(request: Request) -> Response:
        engine, caller = await admit(request, to_run=True)
        async with bodies.receive(request, caller.key.id) as body:
            run_request = await _parse(body, request.headers)
        await _check_schema(engine, run_request, caller)
        run_request = _name_ignored(engine, run_request, caller)
        request_id = request.state.request_id
        return RunResponse(engine.service, run_request, caller, request_id=request_id, heartbeat_s=settings.heartbeat_s)

    @router.get("/v1/models", tags=["OpenAI"], summary="List the agents that the caller may run")
    async def models(request: Request) -> Response:
        engine, caller = await admit(request)
        profiles = [profile for profile in engine.profiles.list() if _may_call(caller, profile.model)]
        return JSONResponse(render_models(profiles, created=engine.started_at))

    @router.get("/v1/models/{model:path}", tags=["OpenAI"], summary="Describe one agent")
    async def model(request: Request, model: str) -> Response:
        engine, caller = await admit(request)
        if not _may_call(caller, model):
            raise ModelNotFound(f"There is no model {model[:200]!r} for you; GET /v1/models lists them.", param="model")
        return JSONResponse(render_model(engine.profiles.get(model), created=engine.started_at))

    @router.get("/v1/runs", tags=["Runs"], summary="The latest trees of the caller, or the run of an idempotency key")
    async def runs(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        idempotency_key: Annotated[str | None, Query(max_length=255, pattern="^[!-~]+$")] = None,
    ) -> Response:
        engine, caller = await admit(request)
        if idempotency_key is not None:
            found = await _run_of_key(engine, caller, idempotency_key)
            return JSONResponse({"object": "list", "data": [] if found is None else [await settled(engine, found)]})
        records = [caller.run] if caller.run else await engine.store.ledger.recent_runs(caller.key.id, limit)
        return JSONResponse({"object": "list", "data": [render_run(record, now=engine.clock.now()) for record in records]})

    @router.get("/v1/runs/{run_id}", tags=["Runs"], summary="One run")
    async def run(request: Request, run_id: str) -> Response:
        engine, caller = await admit(request)
        record = await engine.auth.visible_run(caller, run_id)
        return JSONResponse(await settled(engine, record) | await kept_answer(engine, record))

    @router.get(
        "/v1/runs/{run_id}/events", tags=["Runs"], summary="What happens in a run, from its first event or from a later one"
    )
    async def events(request: Request, run_id: str, after: Annotated[int | None, Query(ge=-1)] = None) -> Response:
        engine, caller = await admit(request)
        record = await engine.auth.visible_run(caller, run_id)
        following = await engine.service.ended_runs.follow(record)
        begin = first_wanted(request.headers.get("last-event-id"), after)
        return RunEventsResponse(following, begin, gateway_id=engine.service.policy.gateway_id, heartbeat_s=settings.heartbeat_s)

    @router.post("/v1/runs/cancel", tags=["Runs"], summary="Stop the run of an idempotency key and all below it")
    async def cancel_claimed(request: Request) -> Response:
        engine, caller = await admit(request)
        key = request.headers.get("idempotency-key", "")
        cancelled = await engine.service.cancel_run_of_key(key, caller)
        if cancelled is None:
            raise RunNotFound("No run of yours has this Idempotency-Key.", param="Idempotency-Key")
        return JSONResponse(await settled(engine, cancelled))

    @router.get("/v1/runs/{run_id}/tree", tags=["Runs"], summary="A run and all below it")
    async def tree(request: Request, run_id: str, within_s: Annotated[float | None, Query(gt=0)] = None) -> Response:
        engine, caller = await admit(request)
        record = await engine.auth.visible_run(caller, run_id)
        records = await engine.store.ledger.subtree(record.id)
        far = await engine.far_trees.parts_of(records, within_s=within_s)
        gateway_id = engine.service.policy.gateway_id
        return JSONResponse(render_tree(records, now=engine.clock.now(), gateway_id=gateway_id, far=far))

    @router.post("/v1/runs/{run_id}/cancel", tags=["Runs"], summary="Stop a run and all below it")
    async def cancel(request: Request, run_id: str) -> Response:
        engine, caller = await admit(request)
        record = await engine.auth.visible_run(caller, run_id)
        if caller.run is not None and caller.run.id == record.id:
            return error_response(RequestError("A run cannot cancel itself; finish instead.", param="run_id"))
        await engine.service.cancel(record.id)
        return JSONResponse(render_run(await engine.auth.visible_run(caller, run_id), now=engine.clock.now()))

    @router.get("/.well-known/jwks.json", tags=["Peers"], summary="By which key this gateway signs what it sends to its peers")
    async def keys() -> Response:
        return JSONResponse((await gateway.signing_key()).jwks(settings.gateway_id))

    @router.get("/health", tags=["Health"], summary="Whether the process answers")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/ready", tags=["Health"], summary="Whether runs are taken")
    async def ready(request: Request) -> Response:
        state = gateway.state
        if state != "ready":
            return JSONResponse({"status": state}, 503)
        engine = gateway.started.result()
        peers = dict(engine.directory.states())
        counts = Counter("ok" if peer == "ok" else "down" for peer in peers.values())
        body = {"status": state, "peers_ok": counts["ok"], "peers_down": counts["down"]}
        # Which gateways this one calls, and what they answer, is for those who may call it, too.
        return JSONResponse({**body, "peers": peers} if await _shows_key(engine, request) else body)

    return router


async def _shows_key(engine: Engine, request: Request) -> bool:
    """Return whether a request presents a valid key; any other one is answered like one without."""
    try:
        caller = await engine.auth.authenticate(request.headers, Connection.of(request.scope))
    except GatewayError:
        return False
    return caller.run is None and caller.grant is None


async def _parse(body: bytes, headers: Mapping[str, str]) -> RunRequest:
    """Read a request; in a thread if it is so large that others would notice."""
    if len(body) <= _QUICK_BYTES:
        return parse_chat_request(body, headers)
    return await run_in_threadpool(parse_chat_request, body, headers)


async def _check_schema(engine: Engine, request: RunRequest, caller: Caller) -> None:
    """Refuse, before any money is spent, a schema that no answer could be checked against."""
    wanted = request.answer_format
    if wanted is None or wanted.schema is None:
        return
    try:
        async with asyncio.timeout(_SCHEMA_CHECK_S):
            await engine.checker.check_schema(wanted.schema, caller.key.id)
    except TimeoutError:
        raise CapacityExceeded(
            f"Your schema waited {_SCHEMA_CHECK_S:g} s to be checked behind others of yours that take long.",
            param="response_format",
            retry_after_s=_SCHEMA_CHECK_S,
        ) from None


def _name_ignored(engine: Engine, request: RunRequest, caller: Caller) -> RunRequest:
    """Add the options that the agent's LLM ignores or cuts down to what the response names."""
    model = caller.run.agent if caller.run is not None and request.model == SELF else request.model
    names = {*request.ignored, *engine.ignored_options(model, request.sampling)}
    return replace(request, ignored=tuple(sorted(names)))


async def _run_of_key(engine: Engine, caller: Caller, idempotency_key: str) -> RunRecord | None:
    found = await engine.store.ledger.get_run_of_key(caller.scope, idempotency_key)
    if found is None and caller.asks_as is not None:
        # To a peer the key is its own run's id, which its run here is recorded with, also when keys are kept no longer.
        found = await engine.store.ledger.run_of_origin(caller.key.id, f"{caller.asks_as}/{idempotency_key}")
    return found


async def settled(engine: Engine, record: RunRecord) -> RunNode:
    """One run with its cost as it stands now, and whether that may still change."""
    summary = await engine.store.ledger.summary(record.id)
    if summary is None:
        raise RunNotFound(f"Run {record.id} is gone.")
    run = render_run(summary.record, now=engine.clock.now(), pending=summary.pending)
    return {**run, "tree_tokens": render_tree_tokens(summary)}


async def kept_answer(engine: Engine, record: RunRecord) -> dict[str, object]:
    """How a run ended, where that is kept: for a run with an idempotency key, or one that nobody was there to hear."""
    if record.state in LIVE_STATES:
        return {}
    finished = await engine.service.ended_runs.get_end(record)
    return {} if finished is None else render_answer(render_outcome(finished))


def _may_call(caller: Caller, model: str) -> bool:
    """Whether a model is in what the caller's key, and the run that it speaks for, may call."""
    policies = [caller.key.policy.allowed_agents]
    if caller.run is not None:
        policies.append(caller.run.limits.allowed_agents)
    return all(allowed is None or model in allowed for allowed in policies)
