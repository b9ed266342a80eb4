"""Plain OpenAI endpoints as peers: held to budgets by their prices, and read whatever they send."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from openai import APIStatusError, OpenAI
from pydantic import SecretStr

from a2a_gateway.peer_settings import PeerSettings
from a2a_gateway.runs.model import SpendCaps
from tests.support.gateway import GatewayUnderTest, gateway_in_thread, scripted_environ
from tests.support.raw_endpoint import (
    RawEndpoint,
    answer_stream,
    delta_chunk,
    json_response,
    raw_endpoint,
    response,
    stream,
    usage_chunk,
)

SECRET = "sk-of-this-gateway-0123456789"
PRICES = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
MODELS = [{"id": "m"}, {"id": "listed", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[RawEndpoint]:
    models = json_response({"data": MODELS})
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(raw_endpoint(models)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(endpoint: RawEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    """A gateway that has the endpoint as three peers: with prices, with a cost that it reports, and with neither."""
    known: dict[str, dict[str, Any]] = {"priced": PRICES, "reporting": {"reports_cost": True}, "unpriced": {}}
    peers = [
        PeerSettings.model_validate(
            {"id": name, "base_url": endpoint.base_url, "api_key": SecretStr(SECRET), "opaque": True, **settings}
        )
        for name, settings in known.items()
    ]
    home = tmp_path_factory.mktemp("near")
    environ = {**scripted_environ("http://127.0.0.1:9/v1"), "OH_PERSISTENCE_DIR": str(home / "openhands")}
    settings: dict[str, Any] = {"unpriced_usd_per_mtok": None, "peers": peers, "peer_refresh_s": 600, "shell_pool_size": 0}
    settings |= {"llm_retries": 1}
    with gateway_in_thread(home, environ, gateway_id="near", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: GatewayUnderTest) -> Iterator[OpenAI]:
    with gateway.sync_client() as client:
        yield client


def ask(client: OpenAI, model: str, budget: str = "1", **asked: Any) -> Any:
    return client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": f"Hello {uuid4()}."}],  # a repeat would be given the same failure again
        extra_headers={"X-A2A-Budget-USD": budget},
        **asked,
    )


def call(client: OpenAI, model: str, budget: str = "1", **asked: Any) -> dict[str, Any]:
    """Ask for an answer; return what came of it: text or error, and what the run is recorded to have cost."""
    try:
        raw = ask(client, model, budget, **asked)
    except APIStatusError as error:
        headers = error.response.headers
        come: dict[str, Any] = {"status": error.status_code, "code": error.code}
    else:
        headers, come = raw.headers, {"text": raw.parse().choices[0].message.content}
    run: Any = client.get(f"/runs/{headers['x-a2a-run-id']}", cast_to=object)
    assert run["cost"]["reserved"] == "0.000000"
    return {**come, "cost": run["cost"]["tree"], "complete": run["cost"]["complete"]}


def response_of(client: OpenAI, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """Send a request; return the response, whatever its status is."""
    try:
        if body is None:
            return client.get(path, cast_to=httpx.Response)
        return client.post(path, cast_to=httpx.Response, body=body)
    except APIStatusError as error:
        return error.response


# ---------------------------------------------------------------------- money


def test_without_a_known_price_no_budget_can_bind_so_the_run_is_refused(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.received.clear()
    refused = {"status": 400, "code": "model_unpriced", "cost": "0.000000", "complete": True}
    assert call(client, "unpriced/m") == refused
    assert endpoint.received == []


def test_reported_tokens_are_charged_at_the_known_price(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = answer_stream("hi")
    assert call(client, "priced/m") == {"text": "hi", "cost": "0.002000", "complete": True}


def test_a_budget_that_does_not_pay_the_prompt_refuses_before_anything_is_sent(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.received.clear()
    refused = {"status": 402, "code": "budget_exceeded", "cost": "0.000000", "complete": True}
    assert call(client, "priced/m", "0.000001") == refused
    assert endpoint.received == []


def test_calls_are_refused_once_they_have_used_up_the_budget_of_their_key(
    gateway: GatewayUnderTest, client: OpenAI, endpoint: RawEndpoint
) -> None:
    endpoint.answer = answer_stream("hi")
    _, key = gateway.create_key(f"poor {uuid4()}", caps=SpendCaps(total_micro_usd=4_000))
    poor = client.with_options(api_key=key)
    costs = [call(poor, "priced/m")["cost"] for _ in range(2)]
    assert costs == ["0.002000", "0.002000"]
    with pytest.raises(APIStatusError) as refused:
        ask(poor, "priced/m")
    assert refused.value.code == "budget_exceeded"


def test_an_answer_may_be_as_long_as_the_budget_pays_for(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = stream(delta_chunk("half"), delta_chunk(finish_reason="length"), usage_chunk(100, 400))
    assert call(client, "priced/m", "0.001") == {"text": "half", "cost": "0.000900", "complete": True}
    bound = endpoint.received[-1]["max_completion_tokens"]
    assert 400 <= bound < 500
    raw = ask(client, "priced/m", "0.001", max_completion_tokens=2000)
    assert (raw.headers["x-a2a-stop-reason"], raw.parse().choices[0].finish_reason) == ("budget_exceeded", "length")


def test_an_endpoint_that_ignores_its_bound_is_stopped(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = stream(*[delta_chunk("word " * 100)] * 1000, delta_chunk(finish_reason="stop"), usage_chunk(100, 100_000))
    run = call(client, "priced/m", "0.001")
    assert 0 < len(run["text"]) < 32 * 500
    assert 0.0008 < float(run["cost"]) <= 0.001
    assert not run["complete"]


def test_small_pieces_do_not_stop_an_answer_within_its_bound(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = stream(*[delta_chunk("a")] * 20, delta_chunk(finish_reason="length"), usage_chunk(100, 20))
    assert call(client, "priced/m", max_completion_tokens=20)["text"] == "a" * 20


def test_an_answer_as_long_as_was_asked_for_is_ended_by_that_limit(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = stream(delta_chunk("half"), delta_chunk(finish_reason="length"), usage_chunk(100, 20))
    raw = ask(client, "priced/m", max_completion_tokens=20)
    assert endpoint.received[-1]["max_completion_tokens"] == 20
    assert raw.headers["x-a2a-stop-reason"] == "max_tokens"


@pytest.mark.parametrize(
    "broken",
    [stream(delta_chunk("x" * 4000), done=False), stream(delta_chunk("x" * 4000), delta_chunk(finish_reason="stop")), b""],
)
def test_a_call_without_reported_usage_is_charged_an_estimate(client: OpenAI, endpoint: RawEndpoint, broken: bytes) -> None:
    endpoint.answer = broken
    run = call(client, "priced/m")
    least = 0.002 if broken else 0.00001
    assert least <= float(run["cost"]) < least + 0.0001
    assert not run["complete"]


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "500 Internal Server Error", "503 Service Unavailable"]
)
def test_a_request_that_the_endpoint_turned_down_costs_nothing(client: OpenAI, endpoint: RawEndpoint, status: str) -> None:
    endpoint.answer = json_response({"error": {"message": "No."}}, status, headers="x-should-retry: false\r\n")
    run = call(client, "priced/m")
    assert (run["cost"], run["complete"]) == ("0.000000", True)
    endpoint.answer = answer_stream("hi")
    call(client, "priced/m")  # an answer closes the circuit breaker


def test_a_reported_cost_is_charged_and_a_reported_zero_is_not_believed(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = answer_stream("hi", cost=0.0123)
    assert call(client, "priced/m") == {"text": "hi", "cost": "0.012300", "complete": True}
    endpoint.answer = answer_stream("hi", cost=0)
    assert call(client, "priced/m") == {"text": "hi", "cost": "0.002000", "complete": True}
    zero = "x-litellm-response-cost: 0\r\n"
    endpoint.answer = stream(delta_chunk("hi"), delta_chunk(finish_reason="stop"), usage_chunk(1000, 500), headers=zero)
    assert call(client, "priced/m") == {"text": "hi", "cost": "0.002000", "complete": True}


def test_an_endpoint_that_reports_its_cost_is_charged_what_it_reports(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = answer_stream("hi", cost=0.0005, is_byok=True, cost_details={"upstream_inference_cost": 0.01})
    assert call(client, "reporting/m") == {"text": "hi", "cost": "0.010500", "complete": True}
    endpoint.answer = answer_stream("hi", cost=0)
    assert call(client, "reporting/m") == {"text": "hi", "cost": "0.000000", "complete": True}
    endpoint.answer = answer_stream("hi", cost=7)
    assert call(client, "reporting/m") == {"text": "hi", "cost": "1.000000", "complete": False}


def test_an_endpoint_that_keeps_its_cost_back_is_charged_all_that_was_set_aside(client: OpenAI, endpoint: RawEndpoint) -> None:
    endpoint.answer = answer_stream("hi")
    assert call(client, "reporting/m", "0.25") == {"text": "hi", "cost": "0.250000", "complete": False}


def test_the_price_that_such_an_endpoint_lists_bounds_a_call(client: OpenAI, endpoint: RawEndpoint) -> None:
    assert call(client, "reporting/listed", "0.000001")["code"] == "budget_exceeded"
    endpoint.answer = answer_stream("hi")
    assert call(client, "reporting/listed") == {"text": "hi", "cost": "0.002000", "complete": True}


# ---------------------------------------------------------------------- answers


def test_a_429_of_the_endpoint_is_one_here_with_the_time_that_it_names(client: OpenAI, endpoint: RawEndpoint) -> None:
    error = {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}
    endpoint.answer = json_response(error, "429 Too Many Requests", headers="retry-after: 37\r\n")
    endpoint.received.clear()
    with pytest.raises(APIStatusError) as refused:
        ask(client, "priced/m")
    assert (refused.value.status_code, refused.value.code) == (429, "llm_rate_limited")
    assert refused.value.response.headers["retry-after"] == "37"
    assert len(endpoint.received) == 1


@pytest.mark.parametrize(("repeated", "attempts"), [("0", 2), ("1", 1)])
def test_an_endpoint_is_asked_as_often_as_an_llm(client: OpenAI, endpoint: RawEndpoint, repeated: str, attempts: int) -> None:
    endpoint.answer = json_response({"error": {"message": "Slow down."}}, "429 Too Many Requests", headers="retry-after: 0\r\n")
    endpoint.received.clear()
    with pytest.raises(APIStatusError):
        client.chat.completions.create(
            model="priced/m",
            messages=[{"role": "user", "content": f"Hello {uuid4()}."}],
            extra_headers={"x-stainless-retry-count": repeated},
        )
    assert len(endpoint.received) == attempts


def test_a_quota_that_is_used_up_is_not_a_rate_limit(client: OpenAI, endpoint: RawEndpoint) -> None:
    error = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    endpoint.answer = json_response(error, "429 Too Many Requests", headers="retry-after: 37\r\n")
    assert call(client, "priced/m")["code"] == "peer_rejected"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (delta_chunk(finish_reason="stop"), "empty_answer"),
        (delta_chunk(finish_reason="stop", reasoning="Hm."), "empty_answer"),
        (delta_chunk(finish_reason="tool_calls", tool_calls=[{"index": 0}]), "unanswered_tool_call"),
    ],
)
def test_an_answer_without_text_is_an_error_and_is_paid(
    client: OpenAI, endpoint: RawEndpoint, end: dict[str, Any], code: str
) -> None:
    endpoint.answer = stream(end, usage_chunk(1000, 500))
    with pytest.raises(APIStatusError) as refused:
        ask(client, "priced/m")
    body: Any = refused.value.body
    assert (refused.value.status_code, refused.value.code, body["details"]["peer_code"]) == (424, "peer_rejected", code)
    assert refused.value.response.headers["x-a2a-cost-usd"] == "0.002000"


def test_reasoning_is_read_by_either_name(client: OpenAI, endpoint: RawEndpoint) -> None:
    thoughts = [delta_chunk(reasoning="one "), delta_chunk(reasoning_content="two", reasoning="two")]
    endpoint.answer = stream(*thoughts, delta_chunk("text", "stop"), usage_chunk(1, 1))
    message = ask(client, "priced/m").parse().choices[0].message.model_dump()
    assert (message["content"], message["reasoning_content"]) == ("text", "one two")


def test_keep_alives_and_line_separators_leave_the_text_whole(client: OpenAI, endpoint: RawEndpoint) -> None:
    text = "one tw\u2028o thr\u2029ee fo\x85ur"
    raw = f'data: {{"created": 1.5, "id": 7, "choices": [{{"delta": {{"content": "{text}"}}}}]}}\n\n'.encode()
    idle = b'id: 5\n\n: idle\n\nretry: 5\n\nevent: ping\n\ndata: {"choices": null}\n\ndata: {"choices": [{"delta": null}]}\n\n'
    endpoint.answer = stream(idle, raw, idle, delta_chunk(finish_reason="stop"), idle, usage_chunk(1000, 500), idle)
    assert call(client, "priced/m") == {"text": text, "cost": "0.002000", "complete": True}


# ---------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "quoting",
    [
        stream(delta_chunk(f"Key {SECRET[:7]}"), delta_chunk(SECRET[7:]), delta_chunk(finish_reason="stop"), usage_chunk(1, 1)),
        stream(delta_chunk(reasoning=SECRET[:7]), delta_chunk(reasoning=SECRET[7:]), delta_chunk("x", "stop"), usage_chunk(1, 1)),
        stream(delta_chunk("half"), {"error": {"message": SECRET, "code": SECRET, "details": {SECRET: [SECRET]}}}),
        stream(delta_chunk("half", SECRET), headers=f"x-a2a-run-id: {SECRET}\r\nx-openhands-serverconversation-id: {SECRET}\r\n"),
        json_response({"error": {"message": f"Incorrect API key provided: {SECRET}"}}, "401 Unauthorized"),
        json_response({"error": {"message": "No.", "code": SECRET, "details": {"a": SECRET}}}, "400 Bad Request"),
        response(f"<html>{SECRET}</html>".encode(), "502 Bad Gateway", kind="text/html"),
        response(SECRET.encode(), kind=SECRET),
        f"HTTP/1.1 {SECRET}\r\n\r\n".encode(),
    ],
    ids=["text", "reasoning", "error", "headers", "refusal", "refusal-details", "page", "type", "status-line"],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_endpoint_that_quotes_our_key_shows_it_to_no_caller(
    client: OpenAI, endpoint: RawEndpoint, quoting: bytes, streamed: bool
) -> None:
    endpoint.answer = quoting
    body = {"model": "priced/m", "stream": streamed, "messages": [{"role": "user", "content": f"Hello {uuid4()}."}]}
    told = response_of(client, "/chat/completions", body)
    run_id = told.headers["x-a2a-run-id"]
    asked = [response_of(client, f"/runs/{run_id}{path}") for path in ("", "/tree", "/events")]
    assert endpoint.authorization == f"Bearer {SECRET}"
    assert SECRET not in "".join(f"{each.headers} {each.text}" for each in (told, *asked))
    endpoint.answer = answer_stream("hi")
    call(client, "priced/m")  # an answer closes the circuit breaker
