"""Whatever goes wrong has OpenAI's shape, the right status, and states whether to retry. No failure looks like success."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import APIError, APIStatusError

from a2a_gateway.testing.script import Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.interaction.conftest import PROFILES
from tests.support.ask import partial_of, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"
HI = [{"role": "user", "content": "hi"}]


def shape(response: httpx.Response) -> tuple[int, str, str | None]:
    """Check the whole shape of an error; return its status, code and param."""
    body = response.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code", "details"}
    assert response.headers["x-should-retry"] in ("true", "false")
    assert response.headers["x-request-id"]
    return response.status_code, body["error"]["code"], body["error"]["param"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_request_error", None),
        (b"{", 400, "invalid_request_error", None),
        (b"[]", 400, "invalid_request_error", None),
        (b'{"model": "openhands_priced"}', 400, "invalid_request_error", "messages"),
        (b'{"messages": [{"role": "user", "content": "hi"}]}', 400, "invalid_request_error", "model"),
        (b'{"model": 7, "messages": []}', 400, "invalid_request_error", "model"),
        (b'{"model": "openhands_priced", "messages": []}', 400, "invalid_request_error", "messages"),
        (
            b'{"model": "openhands_priced", "messages": [{"role": "user", "content": "\\ud800"}]}',
            400,
            "invalid_request_error",
            None,
        ),
        (
            b'{"model": "openhands_priced", "messages": [{"role": "king", "content": "x"}]}',
            400,
            "invalid_request_error",
            "messages.0.role",
        ),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_400(
    gateway: GatewayUnderTest, body: bytes, status: int, code: str, param: str | None
) -> None:
    async with gateway.http() as http:
        assert shape(await http.post("/v1/chat/completions", content=body)) == (status, code, param)


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("n", 2, "n"),
        ("logprobs", True, "logprobs"),
        ("modalities", ["text", "audio"], "modalities"),
        ("temperature", "hot", "temperature"),
        ("temperature", 9, "temperature"),
        ("a2a", {"budget_usd": "lots"}, "a2a.budget_usd"),
        ("a2a", {"unheard_of": 1}, "a2a.unheard_of"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    gateway: GatewayUnderTest, field: str, value: object, param: str
) -> None:
    async with gateway.http() as http:
        response = await http.post("/v1/chat/completions", json={"model": PRICED, "messages": HI, field: value})
    status, _, named = shape(response)
    assert (status, named) == (400, param)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-A2A-Max-Depth", "-1"),
        ("X-A2A-Max-Depth", "deep"),
        ("X-A2A-Budget-USD", "0.1234567"),
        ("X-A2A-Timeout", "soon"),
        ("X-A2A-Narration", "loud"),
        ("X-OpenHands-ServerConversation-ID", "not-a-uuid"),
        ("Idempotency-Key", "x" * 256),
    ],
)
async def test_a_malformed_header_is_a_400_that_names_it(gateway: GatewayUnderTest, header: str, value: str) -> None:
    async with gateway.http() as http:
        response = await http.post("/v1/chat/completions", json={"model": PRICED, "messages": HI}, headers={header: value})
    assert shape(response) == (400, "invalid_request_error", header)


async def test_a_huge_body_is_refused_before_it_is_read(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        announced = await http.post("/v1/chat/completions", content=b"x" * 50_000_000)

        async def pieces() -> Any:
            for _ in range(60):
                yield b"x" * 1_000_000

        chunked = await http.post("/v1/chat/completions", content=pieces())
    assert [shape(response)[:2] for response in (announced, chunked)] == [(413, "request_too_large")] * 2


async def test_unknown_routes_methods_models_and_runs_are_clean_errors(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        seen = {
            "route": (await http.get("/api/show")).json()["error"]["code"],
            "method": (await http.delete("/v1/chat/completions")).json()["error"]["code"],
            "model": shape(await http.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": HI}))[1],
            "profile": shape(await http.post("/v1/chat/completions", json={"model": "openhands_nobody", "messages": HI}))[1],
            "path": shape(await http.post("/v1/chat/completions", json={"model": "openhands_../../etc/passwd", "messages": HI}))[
                1
            ],
            "described": shape(await http.get("/v1/models/openhands_nobody"))[1],
            "self": shape(await http.post("/v1/chat/completions", json={"model": "self", "messages": HI}))[1],
            "run": shape(await http.get("/v1/runs/nope"))[1],
        }
    assert seen == {
        "route": "not_found",
        "method": "method_not_allowed",
        "model": "model_not_found",
        "profile": "model_not_found",
        "path": "model_not_found",
        "described": "model_not_found",
        "self": "model_not_found",
        "run": "run_not_found",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic x"},
        {"authorization": "Bearer a.b.c"},
        {"x-session-api-key": "wrong"},
    ],
)
async def test_a_wrong_credential_is_a_401_that_shows_no_secret(gateway: GatewayUnderTest, headers: dict[str, str]) -> None:
    root = gateway.base_url.removesuffix("/v1")
    async with httpx.AsyncClient(base_url=root, headers=headers) as http:
        response = await http.post("/v1/chat/completions", json={"model": PRICED, "messages": HI})
    assert shape(response)[:2] == (401, "invalid_api_key")
    assert "wrong" not in response.text


async def test_the_session_header_of_openhands_is_accepted(gateway: GatewayUnderTest) -> None:
    async with httpx.AsyncClient(
        base_url=gateway.base_url.removesuffix("/v1"), headers={"x-session-api-key": gateway.key}
    ) as http:
        assert (await http.get("/v1/models")).status_code == 200


LLM_FAULTS = [
    (Step(status=400, error="bad thing"), 400, "llm_bad_request", "false"),
    (Step(status=401, error="Incorrect API key", code="invalid_api_key"), 502, "llm_auth_failed", "false"),
    (Step(status=403, error="forbidden"), 502, "llm_auth_failed", "false"),
    (Step(status=404, error="no such model", code="model_not_found"), 502, "llm_not_found", "false"),
    (
        Step(status=429, error="slow down", code="rate_limit_exceeded", headers={"retry-after": "7"}),
        429,
        "llm_rate_limited",
        "true",
    ),
    (Step(status=500, error="boom"), 502, "llm_unavailable", "false"),
    (Step(status=503, error="boom"), 502, "llm_unavailable", "false"),
    (
        Step(status=400, error="This model's maximum context length is 8192 tokens.", code="context_length_exceeded"),
        400,
        "context_length_exceeded",
        "false",
    ),
    (Step(status=400, error="content_policy violation", code="content_policy_violation"), 400, "content_filter", "false"),
]


@pytest.fixture(scope="module")
def silent_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    """A gateway whose streams begin with what the run does: a heartbeat before a failure would take its status away."""
    with scripted_gateway(tmp_path_factory.mktemp("silent"), PROFILES, heartbeat_s=60) as (gateway, _):
        yield gateway


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code", "retry"), LLM_FAULTS, ids=[f"{fault[2]}-{fault[0].status}" for fault in LLM_FAULTS]
)
async def test_what_the_llm_refuses_is_an_error_streamed_or_not(
    silent_gateway: GatewayUnderTest, fault: Step, status: int, code: str, retry: str, stream: bool
) -> None:
    async with silent_gateway.client() as client:
        with pytest.raises(APIStatusError) as failed:
            await client.chat.completions.create(model=PRICED, messages=[user("Hi", fault)], stream=stream)
    response = failed.value.response
    assert (failed.value.status_code, failed.value.code, response.headers["x-should-retry"]) == (status, code, retry)
    assert response.headers["x-a2a-run-id"]
    assert response.headers["x-a2a-cost-usd"] == "0.000000"
    if status == 429:
        assert response.headers["retry-after"] == "7"
    assert "Traceback" not in failed.value.message
    assert "sk-scripted" not in str(failed.value.body)


async def test_an_llm_that_breaks_off_in_mid_stream_ends_the_stream_with_an_error(gateway: GatewayUnderTest) -> None:
    text = ""
    async with gateway.client() as client:
        stream = await client.chat.completions.create(
            model=PRICED, messages=[user("Hi", Step(content="one two three four", drop_after=3, token_ms=1))], stream=True
        )
        with pytest.raises(APIError) as failed:
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
    assert text == "one two "
    assert failed.value.code == "llm_unavailable"
    assert partial_of(failed.value).strip() == "one two"


async def test_images_need_a_model_that_sees(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    message = user("image-test", Step(content="a dot"))
    content: Any = [{"type": "text", "text": message["content"]}, {"type": "image_url", "image_url": {"url": png}}]
    async with gateway.client() as client:
        with pytest.raises(APIStatusError) as blind:
            await client.chat.completions.create(model=PRICED, messages=[{"role": "user", "content": content}])
        await client.chat.completions.create(model="openhands_seeing", messages=[{"role": "user", "content": content}])
    assert (blind.value.code, blind.value.param) == ("unsupported_parameter", "messages.0.content")
    sent = next(request for request in reversed(llm.traffic.requests) if "image-test" in json.dumps(request.messages[-1]))
    assert any(part.get("image_url", {}).get("url") == png for part in sent.messages[-1]["content"])


async def test_fifty_at_once_are_all_answered(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model=PRICED, messages=[user("Hi", Step(content=f"n{n}"))]) for n in range(50))
        )
    assert [answer.choices[0].message.content for answer in answers] == [f"n{n}" for n in range(50)]
