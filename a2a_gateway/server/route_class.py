"""The route class of every endpoint: errors become OpenAI's shape, whoever's application the router is mounted in."""

import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from a2a_gateway.errors import (
    GatewayError,
    InternalError,
    MethodNotAllowed,
    RequestError,
    RootKeyFromAgent,
    RouteNotFound,
)
from a2a_gateway.wire.errors import render_error
from a2a_gateway.wire.json_bytes import encode_json

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"


class GatewayRoute(APIRoute):
    """Gives each request an id, and renders what goes wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the endpoint."""
        endpoint = super().get_route_handler()

        async def answer(request: Request) -> Response:
            request_id = request.state.request_id = _new_request_id()
            try:
                response = await endpoint(request)
            except RootKeyFromAgent as error:
                _report(error, request_id=request_id, path=request.url.path)
                response = error_response(error)
            except GatewayError as error:
                response = error_response(error)
            except RequestValidationError as error:
                response = error_response(_unreadable(error))
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it
            except Exception as error:
                log.exception("request_failed", request_id=request_id, path=request.url.path)
                response = error_response(_internal(error))
            response.headers[REQUEST_ID_HEADER] = request_id
            return response

        return answer

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or say which methods are; the application's own answer would have another shape."""
        try:
            await super().handle(scope, receive, send)
        except HTTPException as error:
            response = await unknown_path(Request(scope), error)
            await response(scope, receive, send)


def error_response(error: GatewayError) -> Response:
    """Render an error as a response."""
    status, headers, body = render_error(error)
    return Response(encode_json(body), status, headers, "application/json")


async def unknown_path(request: Request, error: Exception) -> Response:
    """Answer what no route matches: unknown paths and methods, in OpenAI's shape."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    where = f"{request.method} {request.url.path[:200]}"
    if status == 405:
        response = error_response(MethodNotAllowed(f"{where} is not allowed; see /docs for what is."))
    elif status == 404:
        response = error_response(RouteNotFound(f"There is no {where}; see /docs for what there is."))
    else:
        response = error_response(RequestError(f"{where} was refused."))
    response.headers[REQUEST_ID_HEADER] = _new_request_id()
    response.headers.update(error.headers or {} if isinstance(error, HTTPException) else {})  # which methods are allowed
    return response


def _new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def _unreadable(error: RequestValidationError) -> RequestError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    return RequestError(f"{name}: {first['msg']}", param=name)


def _internal(error: Exception) -> InternalError:
    return InternalError(f"The gateway failed to answer ({type(error).__name__}); its log says more.")


def _report(error: RootKeyFromAgent, **request: str) -> None:
    if "run_id" in error.details:
        log.warning("key_from_agent_refused", **request, **error.details)
    else:  # most of those who cannot be looked at any more are clients that have hung up at once
        log.info("key_from_somebody_unseen_refused", **request, **error.details)
