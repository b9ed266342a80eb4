"""Runs and their trees: list, inspect, watch, cancel."""

import os
from collections.abc import Sequence
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Header, Query
from starlette.responses import JSONResponse, Response

from a2a_gateway.errors import RequestError, RunNotFound
from a2a_gateway.runs.attachment import for_client
from a2a_gateway.runs.model import LIVE_STATES, RunRecord
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.server import openapi
from a2a_gateway.server.dependencies import CallerDep, EngineDep, GatewayDep, VisibleRunDep
from a2a_gateway.server.gateway import Engine
from a2a_gateway.server.route_class import GatewayRoute
from a2a_gateway.server.run_events import RunEventsResponse, first_position
from a2a_gateway.wire import examples
from a2a_gateway.wire.run_events import render_end
from a2a_gateway.wire.run_view import RunView, render_details, render_run, render_tree
from a2a_gateway.wire.schemas import RunDetailsObject, RunListObject, RunObject, RunTreeObject
from a2a_gateway.wire.usage import render_tree_tokens
from delegate_tool.protocol import fields

_ERRORS: Final = openapi.error_responses(openapi.QUERY_ERRORS)
_MOST_CHILDREN: Final = 100
router: Final = APIRouter(route_class=GatewayRoute, tags=["Runs"], responses=_ERRORS)


@router.get(
    "/v1/runs",
    summary="List the latest trees of the caller, the run of an idempotency key, or the runs of a short id",
    response_model=RunListObject,
    responses=openapi.success("The runs.", examples.RUNS),
)
async def list_runs(
    engine: EngineDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    idempotency_key: Annotated[str | None, Query(max_length=255, pattern="^[!-~]+$")] = None,
    id_prefix: Annotated[str | None, Query(pattern="^[0-9a-f][0-9a-f-]{3,35}$")] = None,
) -> Response:
    """List the roots of the caller's latest trees, or all its runs whose ids begin with a prefix; an agent gets its own run."""
    if idempotency_key is not None:
        found = await _run_of_key(engine, caller, idempotency_key)
        return JSONResponse({"object": "list", "data": [] if found is None else [await _with_sums(engine, found)]})
    records: Sequence[RunRecord]
    if id_prefix is not None:
        records = await engine.auth.find_visible_runs(caller, id_prefix)
    else:
        records = [caller.run] if caller.run else await engine.store.ledger.recent_runs(caller.key.id, limit)
    return JSONResponse({"object": "list", "data": [render_run(record, now=engine.clock.now()) for record in records[:limit]]})


@router.get(
    "/v1/runs/{run_id}",
    summary="Get one run",
    response_model=RunDetailsObject,
    responses=openapi.success("The run.", examples.RUN_DETAILS),
)
async def get_run(engine: EngineDep, caller: CallerDep, record: VisibleRunDep) -> Response:
    """Get a run with its task, its cost, the runs directly below it and, once it has ended, its answer or error."""
    run = {**await _with_sums(engine, record), **await _details(engine, caller, record), **await _kept_answer(engine, record)}
    return JSONResponse(run)


@router.get(
    "/v1/runs/{run_id}/events",
    summary="Stream the events of a run, from the first or from a later one",
    status_code=200,
    response_class=RunEventsResponse,
    responses={
        200: {"description": "The events.", "content": openapi.event_stream_content(examples.RUN_EVENTS)},
        "default": openapi.OTHER_ERROR,
    },
)
async def stream_events(
    engine: EngineDep,
    gateway: GatewayDep,
    record: VisibleRunDep,
    after: Annotated[int | None, Query(ge=-1)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Stream the events of a run as Server-Sent Events until it ends."""
    live = await engine.service.ended_runs.follow(record)
    begin = first_position(last_event_id, after)
    heartbeat_s = gateway.settings.heartbeat_s
    return RunEventsResponse(live, begin, gateway_id=engine.service.policy.gateway_id, heartbeat_s=heartbeat_s)


@router.post(
    "/v1/runs/cancel",
    summary="Cancel the run of an idempotency key and all below it",
    response_model=RunObject,
    responses=openapi.success("The run as it ended.", examples.RUN),
)
async def cancel_run_of_key(
    engine: EngineDep, caller: CallerDep, idempotency_key: Annotated[str, Header(alias=fields.Header.IDEMPOTENCY_KEY)] = ""
) -> Response:
    """Cancel the run that a request with this `Idempotency-Key` has started, and wait until it has ended."""
    cancelled = await engine.service.cancel_run_of_key(idempotency_key, caller)
    if cancelled is None:
        raise RunNotFound("No run of yours has this Idempotency-Key.", param=fields.Header.IDEMPOTENCY_KEY)
    return JSONResponse(await _with_sums(engine, cancelled))


@router.get(
    "/v1/runs/{run_id}/tree",
    summary="Get a run and all below it",
    response_model=RunTreeObject,
    responses=openapi.success("The run, with those below it nested.", examples.RUN_TREE),
)
async def get_tree(engine: EngineDep, record: VisibleRunDep, within_s: Annotated[float | None, Query(gt=0)] = None) -> Response:
    """Get a run with its descendants nested, those on peers included."""
    records = await engine.store.ledger.subtree(record.id)
    reports = await engine.remote_trees.parts_of(records, within_s=within_s)
    gateway_id = engine.service.policy.gateway_id
    return JSONResponse(render_tree(records, now=engine.clock.now(), gateway_id=gateway_id, reports=reports))


@router.post(
    "/v1/runs/{run_id}/cancel",
    summary="Cancel a run and all below it",
    response_model=RunObject,
    responses=openapi.success("The run as it ended.", examples.RUN),
)
async def cancel_run(engine: EngineDep, caller: CallerDep, record: VisibleRunDep) -> Response:
    """Cancel a run, and wait until it and all below it have ended."""
    if caller.run is not None and caller.run.id == record.id:
        raise RequestError("A run cannot cancel itself; finish instead.", param="run_id")
    await engine.service.cancel(record.id)
    return JSONResponse(render_run(await engine.auth.visible_run(caller, record.id), now=engine.clock.now()))


async def _run_of_key(engine: Engine, caller: Caller, idempotency_key: str) -> RunRecord | None:
    """Return the run of an idempotency key."""
    found = await engine.store.ledger.get_run_of_key(caller.scope, idempotency_key)
    if found is None and caller.asks_as is not None:
        # A peer's key is the id of its own run. The run here is recorded with it, even when keys are not kept any more.
        found = await engine.store.ledger.run_of_origin(caller.key.id, f"{caller.asks_as}/{idempotency_key}")
    return found


async def _with_sums(engine: Engine, record: RunRecord) -> RunView:
    """Render a run with its cost as it stands now, and whether that may still change."""
    summary = await engine.store.ledger.summary(record.id)
    if summary is None:
        raise RunNotFound(f"Run {record.id} is gone.")
    run = render_run(summary.record, now=engine.clock.now(), pending=summary.pending)
    return {**run, "tree_tokens": render_tree_tokens(summary)}


async def _details(engine: Engine, caller: Caller, record: RunRecord) -> RunView:
    """Render what only a look at one run shows. Paths of this machine are sent to keys, not to agents and peers."""
    journal, live = await engine.store.journals.get(record.id), engine.service.live_runs.get(record.id)
    workspace_dir = live.workspace_dir if live is not None else journal and journal.workspace_dir
    is_person = caller.run is None and caller.asks_as is None
    if not (is_person and workspace_dir and await anyio.to_thread.run_sync(os.path.isdir, workspace_dir)):
        workspace_dir = None
    children = await engine.store.ledger.list_children(record.id, _MOST_CHILDREN)
    task = None if journal is None else journal.task
    return render_details(task=task, workspace_dir=workspace_dir, children=children, now=engine.clock.now())


async def _kept_answer(engine: Engine, record: RunRecord) -> dict[str, object]:
    """Render how a run ended, if that is kept."""
    if record.state in LIVE_STATES:
        return {}
    finished = await engine.service.ended_runs.get_end(record)
    return {} if finished is None else render_end(for_client(finished))
