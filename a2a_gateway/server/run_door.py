"""The steps that all doors that start runs share: receive and parse the body, check the request, respond with the run's events.

A door's endpoint is two lines: `parse` with the wire's parser, and `respond` with the wire's presenter.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from a2a_gateway.errors import CapacityExceeded
from a2a_gateway.runs.model import RunRequest
from a2a_gateway.runs.proposal import Caller
from a2a_gateway.server.dependencies import EngineDep, RunStarterDep, context_of
from a2a_gateway.server.gateway import Engine
from a2a_gateway.server.run_response import RunResponse
from a2a_gateway.wire.presenter import Presenter
from delegate_tool.protocol.context import unknown_headers
from delegate_tool.protocol.values import SELF, full_model_id

_QUICK_BYTES: Final = 64 * 1024
_SCHEMA_CHECK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RunDoor:
    """One authenticated request for a run."""

    request: Request
    engine: Engine
    caller: Caller

    @property
    def gateway_id(self) -> str:
        """Return the name of this gateway, as a presenter needs it."""
        return self.engine.service.policy.gateway_id

    async def parse[T](self, parser: Callable[[bytes, Mapping[str, str]], T]) -> T:
        """Receive the body and parse it; in a thread if it is so large that other requests would wait."""
        async with context_of(self.request).bodies.receive(self.request, self.caller.key.id) as body:
            if len(body) <= _QUICK_BYTES:
                return parser(body, self.request.headers)
            return await run_in_threadpool(parser, body, self.request.headers)

    async def respond(self, run_request: RunRequest, presenter: Presenter) -> Response:
        """Check what a parser cannot, and return the response that starts the run.

        Raises:
            GatewayError: the answer's schema is invalid, or could not be checked in time.
        """
        await self._check_schema(run_request)
        ignored = {*presenter.ignored_fields, *self._ignored_options(run_request), *unknown_headers(self.request.headers)}
        return RunResponse(
            self.engine.service,
            run_request,
            self.caller,
            presenter,
            ignored=sorted(ignored),
            request_id=self.request.state.request_id,
            heartbeat_s=context_of(self.request).gateway.settings.heartbeat_s,
        )

    async def _check_schema(self, run_request: RunRequest) -> None:
        """Refuse, before any money is spent, a schema that no answer could be checked against."""
        wanted = run_request.answer_format
        if wanted is None or wanted.schema is None:
            return
        try:
            async with asyncio.timeout(_SCHEMA_CHECK_S):
                await self.engine.checker.check_schema(wanted.schema, self.caller.key.id)
        except TimeoutError:
            raise CapacityExceeded(
                f"The schema was not checked within {_SCHEMA_CHECK_S:g} s, because others of this key took long. Try again.",
                param="response_format",
                retry_after_s=_SCHEMA_CHECK_S,
            ) from None

    def _ignored_options(self, run_request: RunRequest) -> tuple[str, ...]:
        """Return the names of the options that the agent's LLM ignores or lowers."""
        run = self.caller.run
        model = run.agent if run is not None and run_request.model == SELF else full_model_id(run_request.model)
        return self.engine.ignored_options(model, run_request.sampling)


async def get_run_door(request: Request, engine: EngineDep, caller: RunStarterDep) -> RunDoor:
    """Return the door of an authenticated request for a run."""
    return RunDoor(request, engine, caller)


RunDoorDep = Annotated[RunDoor, Depends(get_run_door)]
