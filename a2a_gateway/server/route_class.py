"""The route class of every endpoint: it renders errors in the shape of its door, in a host application too."""

from collections.abc import Callable, Coroutine
from typing import Any

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
from a2a_gateway.runs.event_log import get_log, log_fault
from a2a_gateway.server.request_log import log_request, notes_of
from a2a_gateway.wire.errors import encode_error
from a2a_gateway.wire.presenter import ErrorRenderer, WireResponse
from delegate_tool.protocol.fields import Header

log = get_log(__name__)


class GatewayRoute(APIRoute):
    """Logs each request, and renders errors.

    The shape is OpenAI's. A door with a shape of its own has a subclass with another `render_error`, and names that in its
    `APIRouter(route_class=...)`.
    """

    def render_error(self, error: GatewayError) -> WireResponse:
        """Render an error in the shape of this door."""
        return encode_error(error)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the endpoint."""
        endpoint = super().get_route_handler()

        async def answer(request: Request) -> Response:
            request_id = notes_of(request.scope).request_id
            try:
                response = await endpoint(request)
            except ClientDisconnect:
                response = Response(status_code=499)  # no client reads it
            except GatewayError as error:
                if isinstance(error, RootKeyFromAgent):
                    _log_key_from_agent(error, request_id=request_id, path=request.url.path[:200])
                response = error_response(error, self.render_error)
            except RequestValidationError as error:
                response = error_response(_invalid_parameter(error), self.render_error)
            except Exception as error:  # noqa: BLE001  # it is logged
                log_fault(log, "request_failed", request_id=request_id)
                response = error_response(internal_error(error), self.render_error)
            response.headers[Header.REQUEST_ID] = request_id
            return response

        return answer

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and log a request."""
        await log_request(self._handle, scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse the method here, because the application's own response would have another shape."""
        try:
            await super().handle(scope, receive, send)
        except HTTPException as error:
            response = _refusal(Request(scope), error, self.render_error)
            await response(scope, receive, send)


def internal_error(error: Exception) -> InternalError:
    """Return the error of a request that failed through a fault of the gateway, which has been logged."""
    return InternalError(f"The gateway failed to answer ({type(error).__name__}); its log has the details.")


def error_response(error: GatewayError, render_error: ErrorRenderer = encode_error) -> Response:
    """Render an error as a response."""
    status, headers, body = render_error(error)
    return Response(body, status, headers)


async def unknown_path(request: Request, error: Exception) -> Response:
    """Respond, in OpenAI's shape, to a request that no route matches."""
    return _refusal(request, error, encode_error)


def _refusal(request: Request, error: Exception, render_error: ErrorRenderer) -> Response:
    """Render a refusal of the router: an unknown path, or a method that its path does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    where = f"{request.method} {request.url.path[:200]}"
    refusal: GatewayError
    if status == 405:
        refusal = MethodNotAllowed(f"{where} is not allowed; see /docs for what is.")
    elif status == 404:
        refusal = RouteNotFound(f"There is no {where}; see /docs for what there is.")
    else:
        refusal = RequestError(f"{where} was refused.")
    response = error_response(refusal, render_error)
    response.headers[Header.REQUEST_ID] = notes_of(request.scope).request_id
    response.headers.update(error.headers or {} if isinstance(error, HTTPException) else {})  # `Allow`
    return response


def _invalid_parameter(error: RequestValidationError) -> RequestError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    return RequestError(f"{name}: {first['msg']}", param=name)


def _log_key_from_agent(error: RootKeyFromAgent, **request: str) -> None:
    if "run_id" in error.details:
        log.warning("key_from_agent_refused", **request, **error.details)
    else:  # most of these are clients that disconnected at once
        log.info("key_from_unidentified_process_refused", **request, **error.details)
