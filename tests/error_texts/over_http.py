"""What a gateway answers with errors, over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from a2a_gateway.server.request_framing import HEAD_BYTES
from a2a_gateway.testing.script import ScriptedCall, Step
from tests.support.ask import user

type Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]

_AGENT = "openhands_default"
_CHAT = "/v1/chat/completions"


def chat(*steps: Step, model: str = _AGENT, headers: dict[str, str] | None = None, **fields: Any) -> Ask:
    body = {"model": model, "messages": [user("Go.", *steps)], **fields}
    return lambda http: http.post(_CHAT, json=body, headers=headers)


def get(path: str, **headers: str) -> Ask:
    return lambda http: http.get(path, headers=headers)


async def _one_key_for_two_requests(http: httpx.AsyncClient) -> httpx.Response:
    await chat(Step(content="once"), headers={"Idempotency-Key": "used"})(http)
    return await chat(Step(content="another"), headers={"Idempotency-Key": "used"})(http)


def _huge_head(http: httpx.AsyncClient) -> Awaitable[httpx.Response]:
    return http.get("/v1/models", headers={"x-large": "x" * (HEAD_BYTES + 1)})


async def _run_events_after_no_number(http: httpx.AsyncClient) -> httpx.Response:
    answer = await chat(Step(content="hi"), headers={"Idempotency-Key": "followed"})(http)
    return await http.get(f"/v1/runs/{answer.headers['x-a2a-run-id']}/events", headers={"Last-Event-ID": "x"})


def _huge_body(http: httpx.AsyncClient) -> Awaitable[httpx.Response]:
    return http.post(_CHAT, content=b"x" * 50_000_000)


_REPEATED = tuple(Step(tool_calls=(ScriptedCall("terminal", {"command": "true"}),)) for _ in range(2))

CASES: dict[str, Ask] = {
    "not_found": get("/api/show"),
    "method_not_allowed": lambda http: http.delete(_CHAT),
    "request_too_large: the body": _huge_body,
    "request_too_large: the head": _huge_head,
    "invalid_request_error: a compressed body": lambda http: http.post(_CHAT, content=b"x", headers={"content-encoding": "gzip"}),
    "invalid_request_error: a Last-Event-ID that is none": _run_events_after_no_number,
    "invalid_request_error: a misspelt header": chat(headers={"X-A2A-Max-Dept": "1"}),
    "invalid_request_error: a schema that is none": chat(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wish"}}}
    ),
    "unsupported_parameter: an image without vision": chat(
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}
        ]
    ),
    "invalid_api_key: no key was sent": get("/v1/models", Authorization=""),
    "model_not_found: not a model of this gateway": chat(model="gpt-4o"),
    "model_not_found: `self` with a key": chat(model="self"),
    "model_not_found: asked about": get("/v1/models/openhands_nobody"),
    "run_not_found: no such run": get("/v1/runs/nope"),
    "conversation_not_found: no such conversation": chat(
        headers={"X-OpenHands-ServerConversation-ID": "0b5dd1f0-5f0c-4d0e-9a3b-0f8e3f4f2a11"}
    ),
    "idempotency_key_reused": _one_key_for_two_requests,
    "gateway_loop_detected": chat(headers={"X-A2A-Via": "here"}),
    "llm_not_found": chat(Step(status=404, error="no such model", code="model_not_found")),
    "max_turns_exceeded": chat(*_REPEATED, headers={"X-A2A-Max-Turns": "1"}),
    "deadline_exceeded: the agent did not finish": chat(Step(content="late", gate="never"), headers={"X-A2A-Timeout": "0.3"}),
    "agent_stuck": chat(Step(tool_calls=(ScriptedCall("terminal", {"command": "true"}),)), headers={"X-A2A-Max-Turns": "20"}),
}
