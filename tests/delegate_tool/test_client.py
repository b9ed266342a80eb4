"""One delegation from a script: what is sent, and what every kind of reply becomes. Real HTTP, the real OpenAI client."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from openai import AsyncOpenAI

from delegate_tool import DelegationResult, DelegationStatus, adelegate
from delegate_tool.masking import HIDDEN
from delegate_tool.protocol.result import CallerLeft, Tokens
from tests.delegate_tool.remote_endpoint import Answer, Behaviour, Hang, Raw, Refusal, RemoteEndpoint, chunk, sse

pytestmark = pytest.mark.anyio

AGENT = "openhands_reviewer"
CONVERSATION = "6f1d2c9e-6f0f-4c58-9d0b-0d9e9b1f4a11"
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 800},
    "completion_tokens_details": {"reasoning_tokens": 50},
    "cost": 0.0123,
    "cost_details": {"self": "0.010000", "descendants": "0.002300", "currency": "USD", "complete": True},
    "delegation": {
        "run_id": "run-2",
        "tree_id": "run-1",
        "depth": 1,
        "max_depth": 3,
        "runs": 3,
        "stop_reason": "finished",
        "tree_tokens": {"prompt": 5200, "completion": 900},
        "parent": {"remaining": "0.487700", "runs_left": 7},
    },
}
HEADERS = {
    "X-A2A-Run-ID": "run-2",
    "X-A2A-Tree-ID": "run-1",
    "X-A2A-Depth": "1",
    "X-OpenHands-ServerConversation-ID": CONVERSATION,
}


async def ask(endpoint: RemoteEndpoint, behaviour: Behaviour, **limits: Any) -> DelegationResult:
    """Delegate to an agent that behaves so, and return the result without the time that it took."""
    endpoint.plays(AGENT, behaviour)
    result = await adelegate(AGENT, "review it", base_url=endpoint.base_url, api_key="key", **limits)
    assert result.seconds > 0
    return replace(result, seconds=0)


async def test_a_gateways_answer_comes_back_whole(endpoint: RemoteEndpoint) -> None:
    assert await ask(endpoint, Answer(["looks ", "", "good"], USAGE, HEADERS)) == DelegationResult(
        DelegationStatus.FINISHED,
        answer="looks good",
        run_id="run-2",
        tree_id="run-1",
        conversation_id=CONVERSATION,
        depth=1,
        cost_micro_usd=12_300,
        cost_complete=True,
        cost_final=True,
        runs=3,
        tokens=Tokens(1200, 300, 800, 50),
        tree_tokens=Tokens(5200, 900),
        stop_reason="finished",
        left=CallerLeft(runs=7, budget_micro_usd=487_700),
    )


async def test_a_plain_endpoints_answer_has_no_run_and_an_unknown_cost(endpoint: RemoteEndpoint) -> None:
    assert await ask(endpoint, Answer(["hi"])) == DelegationResult(
        DelegationStatus.FINISHED, answer="hi", runs=1, tokens=Tokens(10, 2), tree_tokens=Tokens(10, 2), stop_reason="stop"
    )


async def test_what_is_sent_is_one_streamed_completion_with_the_limits_as_headers(endpoint: RemoteEndpoint) -> None:
    await ask(endpoint, Answer(), context="v2 only", budget_usd="0.50", timeout_s=30, conversation_id=CONVERSATION)
    (received,) = endpoint.received
    assert received.body == {
        "model": AGENT,
        "messages": [{"role": "user", "content": "review it\n\n# Context\n\nv2 only"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    key = received.headers["idempotency-key"]
    assert len(key) == 32
    assert {name: value for name, value in received.headers.items() if name.startswith(("x-a2a", "x-openhands", "auth"))} == {
        "authorization": "Bearer key",
        "x-a2a-budget-usd": "0.500000",
        "x-a2a-timeout": "30",
        "x-a2a-narration": "none",
        "x-openhands-serverconversation-id": CONVERSATION,
    }


@pytest.mark.parametrize(
    ("cost", "known", "complete"),
    [
        ({}, None, False),
        ({"cost": 0.0042}, 4_200, True),
        ({"cost": 0}, 0, True),
        ({"cost": -1}, None, False),
        ({"cost": True}, None, False),
        ({"cost": 1e30}, 10**15, True),
        ({"cost": 10**400}, 10**15, True),
        ({"cost": "free"}, None, False),
        ({"cost": 0.1, "cost_details": {"self": "0.05", "descendants": "0.05", "complete": False}}, 100_000, False),
        ({"cost": 0.1, "cost_details": {"self": "much", "descendants": None}}, 100_000, True),
        ({"cost": 0.1, "cost_details": ["?"]}, 100_000, True),
    ],
)
async def test_a_cost_is_taken_as_exactly_as_it_is_told(
    endpoint: RemoteEndpoint, cost: Any, known: int | None, complete: bool
) -> None:
    result = await ask(endpoint, Answer(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, **cost}))
    assert (result.cost_micro_usd, result.cost_complete) == (known, complete)


async def test_what_no_text_may_hold_is_replaced_in_the_task_and_in_the_answer(endpoint: RemoteEndpoint) -> None:
    raw = b'data: {"choices": [{"delta": {"content": "so \\ud83d"}, "finish_reason": "stop"}]}\n\n'
    result = await ask(endpoint, Raw(raw), context="\ud83d")
    assert result.answer == "so \N{REPLACEMENT CHARACTER}"
    assert endpoint.received[0].body["messages"][0]["content"].endswith("\n\n\N{REPLACEMENT CHARACTER}")


async def test_what_no_text_may_hold_is_replaced_in_an_error(endpoint: RemoteEndpoint) -> None:
    raw = b'data: {"error": {"message": "No \\ud83d", "code": "c\\ud83d", "details": {"max_depth": "\\ud83d"}}}\n\n'
    result = await ask(endpoint, Raw(raw))
    assert result.error_code == "c\N{REPLACEMENT CHARACTER}"
    assert result.error_message == "No \N{REPLACEMENT CHARACTER} (max_depth \N{REPLACEMENT CHARACTER})"


@pytest.mark.parametrize(
    ("error", "message"), [("model unloaded", "model unloaded"), ("<html>no route</html>", "HTTP 400 from ")]
)
async def test_an_error_that_is_only_a_text_is_told_unless_it_is_a_page(
    endpoint: RemoteEndpoint, error: str, message: str
) -> None:
    result = await ask(endpoint, Refusal(400, error))
    assert (result.error_code, (result.error_message or "")[: len(message)]) == ("http_400", message)


async def test_a_litellm_proxys_cost_header_is_understood(endpoint: RemoteEndpoint) -> None:
    result = await ask(endpoint, Answer(headers={"x-litellm-response-cost": "4.25e-05"}))
    assert (result.cost_micro_usd, result.cost_complete) == (43, True)


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason", "status"),
    [
        ("stop", "finished", DelegationStatus.FINISHED),
        ("length", "finished", DelegationStatus.PARTIAL),
        ("length", "budget_exceeded", DelegationStatus.PARTIAL),
        ("stop", "max_turns", DelegationStatus.PARTIAL),
    ],
)
async def test_an_answer_cut_by_a_limit_is_partial(
    endpoint: RemoteEndpoint, finish_reason: str, stop_reason: str, status: DelegationStatus
) -> None:
    usage = USAGE | {"delegation": {"stop_reason": stop_reason}}
    result = await ask(endpoint, Answer(["half"], usage, finish_reason=finish_reason))
    assert (result.status, result.answer, result.stop_reason) == (status, "half", stop_reason)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (402, "budget_exceeded"),
        (403, "delegation_depth_exceeded"),
        (403, "delegation_cycle_detected"),
        (403, "delegation_runs_exhausted"),
        (403, "agent_not_allowed"),
        (404, "model_not_found"),
        (508, "gateway_loop_detected"),
        (400, "model_unpriced"),
    ],
)
async def test_a_refusal_has_the_limit_its_value_and_a_remedy(endpoint: RemoteEndpoint, status: int, code: str) -> None:
    details = {"depth": 4, "max_depth": 3, "runs_left": 7}
    result = await ask(endpoint, Refusal(status, {"message": "No.", "code": code, "details": details}))
    assert result.error_message == "No. (depth 4, max_depth 3, runs_left 7)"
    assert result.remedy
    assert replace(result, error_message=None) == DelegationResult(
        DelegationStatus.REFUSED,
        cost_micro_usd=0,
        cost_complete=True,
        stop_reason=code,
        left=CallerLeft(runs=7),
        error_code=code,
        details=details,
        http_status=status,
    )
    assert len(endpoint.received) == 1


async def test_a_failed_run_reports_what_its_caller_has_left_and_not_itself(endpoint: RemoteEndpoint) -> None:
    details = {"budget_remaining_usd": "0.000000", "parent": {"remaining": "0.300000", "runs_left": 2}}
    result = await ask(endpoint, Refusal(402, {"message": "Used up.", "code": "budget_exceeded", "details": details}))
    assert result.left == CallerLeft(runs=2, budget_micro_usd=300_000)


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (Refusal(500, {"message": "stuck", "code": "agent_stuck"}), DelegationStatus.FAILED, "agent_stuck"),
        (Refusal(401, {"message": "ended", "code": "run_token_revoked"}), DelegationStatus.FAILED, "run_token_revoked"),
        (Refusal(499, {"message": "cancelled", "code": "run_cancelled"}), DelegationStatus.CANCELLED, "run_cancelled"),
        (Refusal(400, {"message": "bad", "code": "invalid_request_error"}), DelegationStatus.FAILED, "invalid_request_error"),
        (Refusal(404, "nope"), DelegationStatus.REFUSED, "http_404"),
        (Refusal(502, {"message": None, "code": 502}), DelegationStatus.FAILED, "502"),
    ],
)
async def test_every_error_status_becomes_a_result(
    endpoint: RemoteEndpoint, refusal: Refusal, status: DelegationStatus, code: str
) -> None:
    result = await ask(endpoint, refusal)
    assert (result.status, result.error_code, len(endpoint.received)) == (status, code, 1)
    assert result.error_message


@pytest.mark.parametrize(
    ("headers", "cost"),
    [({"x-should-retry": "false"}, (0, True)), ({}, (None, False)), (HEADERS | {"x-should-retry": "false"}, (None, False))],
)
async def test_a_run_that_could_not_begin_costs_nothing_and_others_an_unknown_amount(
    endpoint: RemoteEndpoint, headers: dict[str, str], cost: tuple[int | None, bool]
) -> None:
    result = await ask(endpoint, Refusal(424, {"message": "No.", "code": "peer_rejected"}, headers))
    assert (result.status, (result.cost_micro_usd, result.cost_complete)) == (DelegationStatus.FAILED, cost)


async def test_an_error_after_work_keeps_the_text_the_run_and_its_cost(endpoint: RemoteEndpoint) -> None:
    error = {"message": "Too late.", "code": "deadline_exceeded", "details": {"partial": "half", "run_id": "run-2"}}
    headers = HEADERS | {"x-should-retry": "false", "X-A2A-Cost-USD": "0.25", "X-A2A-Cost-Complete": "false"}
    result = await ask(endpoint, Refusal(504, error, headers))
    assert (result.status, result.answer, result.run_id, result.conversation_id) == ("failed", "half", "run-2", CONVERSATION)
    assert (result.cost_micro_usd, result.cost_complete) == (250_000, False)


@pytest.mark.parametrize(
    ("raw", "code", "answer"),
    [
        (Raw(sse(chunk("half"), {"error": {"message": "stuck", "code": "agent_stuck"}}, done=False)), "agent_stuck", "half"),
        (Raw(sse(chunk("half"), {"error": "?"}, done=False)), "stream_error", "half"),
        (Raw(sse(chunk("half"), done=False)), "stream_broken", "half"),
        (Raw(sse(chunk("half"), done=False), cut=True), "stream_broken", "half"),
        (Raw(sse(chunk("half")) + b"data: {not json\n\n"), "stream_broken", "half"),
        (Raw(sse(chunk("half"), done=False) + b"data: {not json\n\n"), "malformed_response", "half"),
        (Raw(sse(chunk("half", "content_filter"))), "content_filter", "half"),
        (Raw(sse({"choices": None}, {}, {"choices": [{}]}, {"choices": [{"delta": None}]})), "stream_broken", ""),
        (Raw(b"<html>a login page</html>"), "stream_broken", ""),
        (Raw(b""), "stream_broken", ""),
    ],
)
async def test_a_stream_that_fails_keeps_what_had_arrived(endpoint: RemoteEndpoint, raw: Raw, code: str, answer: str) -> None:
    result = await ask(endpoint, raw)
    assert (result.status, result.error_code, result.answer) == (DelegationStatus.FAILED, code, answer)
    assert (result.cost_micro_usd, result.cost_complete, len(endpoint.received)) == (None, False, 1)


async def test_an_empty_answer_of_a_gateway_is_what_its_agent_said(endpoint: RemoteEndpoint) -> None:
    assert (await ask(endpoint, Answer([], USAGE, HEADERS))).status is DelegationStatus.FINISHED


async def test_an_answer_longer_than_may_be_kept_ends_with_an_error(endpoint: RemoteEndpoint) -> None:
    body = sse(chunk("x" * 1_000_000), done=False) * 9 + sse(chunk(finish_reason="stop"))
    result = await ask(endpoint, Raw(body))
    assert (result.status, result.error_code, len(result.answer)) == (DelegationStatus.FAILED, "answer_too_large", 8_000_000)
    assert str(8 * 1024**2) in (result.error_message or "")


SECRET = "sk-quoted-secret-0123456789"
QUOTING = {"message": f"Bad {SECRET}", "code": SECRET, "details": {SECRET: [SECRET]}}


@pytest.mark.parametrize(
    "behaviour",
    [
        Answer([f"Your key is {SECRET[:9]}", f"{SECRET[9:]}."], headers={"X-A2A-Run-ID": SECRET}),
        Raw(
            sse(chunk("half"), {"error": {"message": f"Bad {SECRET}", "code": SECRET, "details": {SECRET: [SECRET]}}}, done=False)
        ),
        Refusal(
            401, {"message": f"Incorrect API key provided: {SECRET}.", "code": "invalid_api_key", "details": {"key": SECRET}}
        ),
        Refusal(500, f"A page that quotes {SECRET}"),
        Refusal(400, {"message": "x" * 1980 + SECRET, "code": "x" * 85 + SECRET, "details": {"depth": "x" * 5 + SECRET}}),
    ],
)
async def test_an_endpoint_that_quotes_the_key_does_not_show_it_to_the_agent(
    endpoint: RemoteEndpoint, behaviour: Behaviour
) -> None:
    endpoint.plays(AGENT, behaviour)
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key=SECRET, max_retries=0) as client:
        result = await adelegate(AGENT, "review it", client=client)
    assert endpoint.received[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET[:10] not in repr(result).replace(HIDDEN, "")


async def test_a_retry_carries_the_same_idempotency_key(endpoint: RemoteEndpoint) -> None:
    busy = Refusal(429, {"code": "capacity_exceeded"}, {"x-should-retry": "true", "retry-after-ms": "1"})
    endpoint.plays(AGENT, busy, busy, Answer(["at last"]))
    result = await adelegate(AGENT, "t", base_url=endpoint.base_url, api_key="key")
    assert (result.status, result.answer) == (DelegationStatus.FINISHED, "at last")
    assert len(endpoint.received) == 3
    assert len({received.headers["idempotency-key"] for received in endpoint.received}) == 1


@pytest.mark.parametrize(("pieces", "answer"), [((), ""), (("half",), "half")])
async def test_a_delegation_ends_at_its_own_timeout_even_if_the_endpoint_does_not(
    endpoint: RemoteEndpoint, pieces: tuple[str, ...], answer: str
) -> None:
    result = await ask(endpoint, Hang(pieces), timeout_s=1)
    assert (result.status, result.error_code, result.answer) == (DelegationStatus.FAILED, "deadline_exceeded", answer)
    await anyio.to_thread.run_sync(endpoint.wait_for, lambda seen: seen.disconnects >= 1)


@pytest.mark.parametrize("hang", [Hang(), Hang(["half"])])
async def test_cancelling_the_caller_hangs_up(endpoint: RemoteEndpoint, hang: Hang) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, endpoint, hang)
        await anyio.to_thread.run_sync(endpoint.wait_for, lambda seen: seen.hanging == 1)
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(endpoint.wait_for, lambda seen: seen.disconnects == 1)


async def test_an_unreachable_endpoint_is_a_failure_that_names_it(unused_tcp_port: int) -> None:
    result = await adelegate(AGENT, "t", base_url=f"http://127.0.0.1:{unused_tcp_port}/v1", api_key="s3cret")
    assert (result.status, result.error_code) == (DelegationStatus.FAILED, "unreachable")
    assert f"127.0.0.1:{unused_tcp_port}" in (result.error_message or "")
    assert "s3cret" not in repr(result)


async def test_a_failed_tls_handshake_names_what_to_change(endpoint: RemoteEndpoint, tmp_path: Path) -> None:
    plain = await adelegate(AGENT, "t", base_url=endpoint.base_url.replace("http:", "https:"), api_key="key")
    async with serving_tls(tmp_path) as base_url:
        untrusted = await adelegate(AGENT, "t", base_url=base_url, api_key="key")
    assert {plain.error_code, untrusted.error_code} == {"unreachable"}
    assert "http://" in (plain.error_message or "")
    assert "SSL_CERT_FILE" in (untrusted.error_message or "")


@asynccontextmanager
async def serving_tls(directory: Path) -> AsyncIterator[str]:
    """Listen with a certificate that no authority has signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
