"""Requests that come twice: with an idempotency key, marked by the SDK, or unmarked; and clients that leave and come back."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from openai import APIError, APIStatusError

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.runs.model import IdempotencyKey, TokenUsage
from a2a_gateway.stores import open_store, sqlite_url
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from a2a_gateway.wire.chat.request import parse_chat_request
from delegate_tool import adelegate
from tests.stores.ledger_bench import Bench, SteppedClock
from tests.support.ask import call, content_of, partial_of, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.until import until

pytestmark = pytest.mark.anyio
AGENT = "openhands_default"
PRICED_AGENT = "openhands_priced"
PRICED = "---\nname: priced\na2a:\n  input_usd_per_mtok: 1\n  output_usd_per_mtok: 1\n---\n"


@pytest.fixture(scope="module")
def _patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    """A gateway that waits for clients to come back, longer than any test."""
    with scripted_gateway(tmp_path_factory.mktemp("patient"), {"priced": PRICED}, disconnect_grace_s=60, heartbeat_s=0.2) as both:
        yield both


@pytest.fixture
def gateway(_patient: tuple[GatewayUnderTest, ScriptedLLM]) -> GatewayUnderTest:
    return _patient[0]


@pytest.fixture
def llm(_patient: tuple[GatewayUnderTest, ScriptedLLM]) -> ScriptedLLM:
    return _patient[1]


def body(message: dict[str, Any]) -> dict[str, Any]:
    return {"model": AGENT, "messages": [message]}


async def left_by_its_client(
    gateway: GatewayUnderTest, llm: ScriptedLLM, message: dict[str, Any], gate: str, **headers: str
) -> str:
    """Start a run that waits at a gate, and hang up on it; returns the run's id."""
    async with gateway.http() as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body(message), headers=headers))
        await llm.wait_until(lambda traffic: traffic.waiting_at(gate) == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (run,) = [run for run in (await http.get("/v1/runs")).json()["data"] if run["state"] == "running"]
    live = gateway.live_run(run["id"])
    await until(lambda: live.is_abandoned)
    return str(run["id"])


async def test_an_idempotency_key_gives_the_same_answer_again_and_charges_nothing(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    before = llm.traffic.received
    message, headers = user("Once.", Step(content="Only once.", usage=Usage(1_000, 10))), {"Idempotency-Key": "once"}
    async with gateway.client() as client:
        create = client.chat.completions.with_raw_response.create
        first = await create(model=PRICED_AGENT, messages=[message], extra_headers=headers)
        again = await create(model=PRICED_AGENT, messages=[message], extra_headers=headers)
        stream = await client.chat.completions.create(model=PRICED_AGENT, messages=[message], extra_headers=headers, stream=True)
        chunks = [chunk async for chunk in stream]
        with pytest.raises(APIStatusError) as reused:
            await create(model=PRICED_AGENT, messages=[user("Twice.", Step(content="no"))], extra_headers=headers)
    assert again.parse().model_dump() == first.parse().model_dump()
    assert content_of(chunks) == "Only once."
    assert [answer.headers.get("x-a2a-idempotent-replay") for answer in (first, again)] == [None, "true"]
    assert again.headers["x-a2a-cost-usd"] == first.headers["x-a2a-cost-usd"] == "0.001010"
    assert (reused.value.status_code, reused.value.code) == (422, "idempotency_key_reused")
    assert llm.traffic.received - before == 1


async def test_two_requests_with_one_key_at_once_are_one_run_and_both_are_answered(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    before = llm.traffic.received
    message, headers = user("Both.", Step(content="For both.", gate=Gate("both", after=1))), {"Idempotency-Key": "both"}
    async with gateway.client() as client:
        asking = [
            asyncio.create_task(client.chat.completions.create(model=AGENT, messages=[message], extra_headers=headers))
            for _ in range(3)
        ]
        await llm.wait_until(lambda traffic: traffic.waiting_at("both") == 1)
        llm.open_gate("both")
        answers = [await task for task in asking]
    assert {answer.id for answer in answers} == {answers[0].id}
    assert {answer.choices[0].message.content for answer in answers} == {"For both."}
    assert llm.traffic.received - before == 1


async def test_a_failure_with_a_key_is_given_again(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    before = llm.traffic.received
    message, headers = user("Fail.", Step(status=400, error="no such thing")), {"Idempotency-Key": "failing"}
    async with gateway.client() as client:
        for _ in range(2):
            with pytest.raises(APIStatusError) as failed:
                await client.chat.completions.create(model=AGENT, messages=[message], extra_headers=headers)
            assert failed.value.code == "llm_bad_request"
    assert failed.value.response.headers["x-a2a-idempotent-replay"] == "true"
    assert llm.traffic.received - before == 1


@pytest.mark.parametrize("is_begun", [False, True], ids=["at-once", "after-work"])
async def test_a_failure_of_the_moment_with_a_key_is_tried_again_unless_something_was_done(
    gateway: GatewayUnderTest, llm: ScriptedLLM, is_begun: bool
) -> None:
    busy = Step(status=429, error="slow down", headers={"retry-after": "1"})
    steps = (Step(tool_calls=(call("terminal", command="true"),)), busy) if is_begun else (busy,)
    headers = {"Idempotency-Key": f"busy-{is_begun}"}
    runs = set()
    async with gateway.client() as client:
        for _ in range(2):
            with pytest.raises(APIStatusError) as failed:
                await client.chat.completions.create(model=AGENT, messages=[user("Busy?", *steps)], extra_headers=headers)
            assert failed.value.code == "llm_rate_limited"
            assert failed.value.response.headers["x-should-retry"] == ("false" if is_begun else "true")
            runs.add(failed.value.response.headers["x-a2a-run-id"])
    assert len(runs) == (1 if is_begun else 2)


async def test_a_key_and_its_answer_survive_a_restart(tmp_path: Path) -> None:
    message, headers = user("Remember.", Step(content="Kept.")), {"Idempotency-Key": "kept"}
    with scripted_gateway(tmp_path) as (gateway, _):
        key = gateway.key
        async with gateway.client() as client:
            first = await client.chat.completions.create(model=AGENT, messages=[message], extra_headers=headers)
    with scripted_gateway(tmp_path) as (gateway, llm):
        async with gateway.client(key=key) as client:
            again = await client.chat.completions.create(model=AGENT, messages=[message], extra_headers=headers)
        assert llm.traffic.received == 0
    assert again.model_dump() == first.model_dump()


async def test_a_retry_of_a_run_that_a_crash_ended_gets_its_id_and_cost(tmp_path: Path) -> None:
    sent, headers = json.dumps(body(user("Cut short.", Step(content="never")))).encode(), {"Idempotency-Key": "cut-short"}
    clock = SteppedClock(SystemClock().now())
    async with open_store(sqlite_url(tmp_path / "gateway.db"), clock) as store:  # as a gateway that was killed has left it
        key, secret = await store.keys.create_key("me")
        dead = Bench(store, clock, key, "")
        asked = parse_chat_request(sent, headers).run
        claim = IdempotencyKey(f"key:{key.id}", "cut-short", asked.fingerprint, clock.now() + 3600)
        run = await dead.propose(str(uuid4()), idempotency_key=claim, starts=True)
        await dead.turn(run.id, TokenUsage(10, 5), 700)
    with scripted_gateway(tmp_path) as (gateway, llm):
        async with gateway.http(secret) as http:
            told = await http.post("/v1/chat/completions", content=sent, headers=headers)
        received = llm.traffic.received
    assert (told.status_code, told.json()["error"]["code"], told.headers["x-should-retry"]) == (503, "run_lost", "false")
    assert (told.headers["x-a2a-run-id"], told.headers["x-a2a-cost-usd"]) == (run.id, "0.000700")
    assert told.headers["x-a2a-idempotent-replay"] == "true"
    assert received == 0


async def test_a_client_that_times_out_and_retries_by_itself_gets_one_run(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    # The official client with its default retries; the gate opens when its second request has come.
    before = llm.traffic.received
    message = user("Slow.", Step(content="At last.", gate="slow"))
    async with gateway.client(timeout=httpx.Timeout(5, read=0.5), max_retries=2) as client:
        asking = asyncio.create_task(client.chat.completions.create(model=AGENT, messages=[message]))
        await llm.wait_until(lambda traffic: traffic.waiting_at("slow") == 1)
        (live,) = [live for live in gateway.running.gateway.started.result().service.live_runs if not live.has_ended]
        await until(lambda: live.departures > 0)
        llm.open_gate("slow")
        answer = await asking
    assert answer.choices[0].message.content == "At last."
    assert llm.traffic.received - before == 1


async def test_an_unmarked_repeat_of_a_request_whose_client_has_left_gets_that_run(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    message = user("Left.", Step(content="Still here.", gate="left"))
    run_id = await left_by_its_client(gateway, llm, message, "left")
    async with gateway.http() as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body(message)))
        await until(lambda: not gateway.live_run(run_id).is_abandoned)
        llm.open_gate("left")
        answer = await asking
    assert answer.headers["x-a2a-run-id"] == run_id
    assert answer.headers["x-a2a-idempotent-replay"] == "true"
    assert answer.json()["choices"][0]["message"]["content"] == "Still here."


async def test_two_equal_requests_whose_clients_stay_are_two_runs(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    message = user("Same.", Step(content="ok", gate="same"))
    async with gateway.client() as client:
        asking = [asyncio.create_task(client.chat.completions.create(model=AGENT, messages=[message])) for _ in range(2)]
        await llm.wait_until(lambda traffic: traffic.waiting_at("same") == 2)
        llm.open_gate("same")
        answers = [await task for task in asking]
        later = await client.chat.completions.create(model=AGENT, messages=[message])
    assert len({answer.id for answer in (*answers, later)}) == 3


async def test_a_marked_repeat_gets_the_live_run_though_its_client_seems_attached(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    message = user("Marked.", Step(content="ok", gate="marked"))
    async with gateway.client() as client:
        create = client.chat.completions.create
        first = asyncio.create_task(create(model=AGENT, messages=[message]))
        await llm.wait_until(lambda traffic: traffic.waiting_at("marked") == 1)
        # It has the run once its headers are there, which leave with the first heartbeat.
        second = await create(model=AGENT, messages=[message], extra_headers={"x-stainless-retry-count": "1"}, stream=True)
        llm.open_gate("marked")
        chunks = [chunk async for chunk in second]
        assert chunks[0].id == (await first).id


async def test_a_failure_that_no_repeat_cures_is_not_run_again_within_a_minute(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    before = llm.traffic.received
    message = user("Fail without a key.", Step(status=400, error="bad"))
    async with gateway.client() as client:
        for _ in range(3):
            with pytest.raises(APIStatusError) as failed:
                await client.chat.completions.create(model=AGENT, messages=[message])
            assert failed.value.code == "llm_bad_request"
        assert llm.traffic.received - before == 1
        limited = user("Too many.", Step(status=429, error="slow down"))
        for _ in range(2):
            with pytest.raises(APIStatusError):
                await client.chat.completions.create(model=AGENT, messages=[limited])
    assert llm.traffic.received - before == 3


@pytest.mark.parametrize("status", [429, 503])
async def test_a_client_that_retries_by_itself_does_not_have_work_done_again(
    gateway: GatewayUnderTest, llm: ScriptedLLM, status: int
) -> None:
    before = llm.traffic.received
    steps = Step(tool_calls=(call("terminal", command="true"),)), Step(status=status, error="not now")
    message = user(f"Work, then fail with {status}.", *steps)
    failures = []
    for max_retries in (2, 0, 0):  # the last two repeat the request unmarked, as most clients do
        async with gateway.client(max_retries=max_retries) as client:
            with pytest.raises(APIStatusError) as failed:
                await client.chat.completions.create(model=AGENT, messages=[message])
        failures.append(failed.value)
    assert {failure.response.headers["x-should-retry"] for failure in failures} == {"false"}
    assert len({(failure.response.headers["x-a2a-run-id"], failure.status_code, failure.code) for failure in failures}) == 1
    assert llm.traffic.received - before == 2


async def test_a_stream_that_broke_in_mid_answer_is_not_begun_again_by_a_repetition(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    before = llm.traffic.received
    message = user("Break.", Step(content="This answer breaks off here.", drop_after=3))
    async with gateway.client() as client:
        first = await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
        with pytest.raises(APIError) as broken:
            [chunk async for chunk in first]
        with pytest.raises(APIStatusError) as again:
            await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
    assert (broken.value.code, again.value.code, again.value.status_code) == ("llm_unavailable", "llm_unavailable", 502)
    assert again.value.response.headers["x-a2a-run-id"] == first.response.headers["x-a2a-run-id"]
    assert again.value.response.headers["x-should-retry"] == "false"
    assert partial_of(again.value) == partial_of(broken.value)
    assert llm.traffic.received - before == 1


async def test_a_stopped_answer_is_begun_anew_and_the_stopped_run_is_cancelled(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    message = user("Write.", Step(content="One two three four.", gate=Gate("regenerate", after=3)))
    async with gateway.client() as client:
        create = client.chat.completions.create
        async with await create(model=AGENT, messages=[message], stream=True) as stream:
            stopped = gateway.live_run(stream.response.headers["x-a2a-run-id"])
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        await until(lambda: stopped.has_left)
        answering = asyncio.create_task(create(model=AGENT, messages=[message]))
        await until(stopped.closed.is_set)
        llm.open_gate("regenerate")
        answer = await answering
    assert answer.choices[0].message.content == "One two three four."
    assert answer.id != f"chatcmpl-{stopped.record.id}"
    assert stopped.record.state == "cancelled"


async def test_a_lost_client_that_nobody_replaces_means_cancel(tmp_path: Path) -> None:
    with scripted_gateway(tmp_path, disconnect_grace_s=0.05) as (gateway, llm):
        run_id = await left_by_its_client(gateway, llm, user("Gone.", Step(content="no", gate="gone")), "gone")
        closed = gateway.live_run(run_id).closed
        await asyncio.to_thread(gateway.portal.call, closed.wait)
        assert llm.traffic.disconnects == 1
        async with gateway.http() as http:
            run = (await http.get(f"/v1/runs/{run_id}")).json()
    assert run["state"] == "cancelled"


async def test_a_run_that_is_to_continue_keeps_its_answer_for_whoever_asks(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    message = user("Go on.", Step(content="Done without you.", gate="go-on"))
    run_id = await left_by_its_client(gateway, llm, message, "go-on", **{"X-A2A-On-Disconnect": "continue"})
    closed = gateway.live_run(run_id).closed
    llm.open_gate("go-on")
    await asyncio.to_thread(gateway.portal.call, closed.wait)
    async with gateway.http() as http:
        run = (await http.get(f"/v1/runs/{run_id}")).json()
        events = [line for line in (await http.get(f"/v1/runs/{run_id}/events")).text.splitlines() if line.startswith("data: ")]
    assert (run["state"], run["answer"]) == ("finished", {"text": "Done without you.", "finish_reason": "stop"})
    told = [json.loads(line.removeprefix("data: ")) for line in events]
    assert [event["id"] for event in told] == list(range(len(told)))
    assert (told[0]["type"], told[-1]["type"]) == ("run.started", "run.finished")
    assert "".join(event["text"] for event in told if event["type"] == "content.delta") == "Done without you."
    assert told[-1]["answer"] == run["answer"]


async def test_events_are_followed_from_any_of_them_and_end_with_the_run(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    message = user("Watch.", Step(content="One two three.", gate=Gate("watch", after=2)))
    async with gateway.client() as client, gateway.http() as http:
        stream = await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
        run_id = stream.response.headers["x-a2a-run-id"]
        async with http.stream("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "0"}) as watching:
            lines = watching.aiter_lines()
            assert await anext(lines) == "id: 1"
            llm.open_gate("watch")
            rest = [line async for line in lines]
        assert [chunk async for chunk in stream]
        wrong = await http.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "soon"})
    assert rest[0] == "event: content.delta"
    assert json.loads([line for line in rest if line.startswith("data: ")][-1].removeprefix("data: "))["type"] == "run.finished"
    assert wrong.status_code in (400, 404)  # its end has been delivered, so it may be forgotten by now


async def test_whoever_asks_for_events_after_the_latest_waits_for_the_next(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    message = user("Watch ahead.", Step(content="One two three.", gate=Gate("ahead", after=2)))
    async with gateway.client() as client, gateway.http() as http:
        stream = await client.chat.completions.create(model=AGENT, messages=[message], stream=True)
        run_id = stream.response.headers["x-a2a-run-id"]
        async with http.stream("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "999999"}) as watching:
            lines = watching.aiter_lines()
            llm.open_gate("ahead")
            told = [line async for line in lines]
        assert [chunk async for chunk in stream]
    assert told[0].startswith("id: ")
    assert told[-3] == "event: run.finished"


async def test_a_run_is_cancelled_by_its_idempotency_key(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    message = user("Stop me.", Step(content="no", gate="stop-me"))
    async with gateway.client() as client, gateway.http() as http:
        asking = asyncio.create_task(
            client.chat.completions.create(model=AGENT, messages=[message], extra_headers={"Idempotency-Key": "stop-me"})
        )
        await llm.wait_until(lambda traffic: traffic.waiting_at("stop-me") == 1)
        cancelled = await http.post("/v1/runs/cancel", headers={"Idempotency-Key": "stop-me"})
        unknown = await http.post("/v1/runs/cancel", headers={"Idempotency-Key": "unknown"})
        with pytest.raises(APIStatusError) as stopped:
            await asking
    assert (cancelled.json()["state"], stopped.value.code) == ("cancelled", "run_cancelled")
    assert unknown.json()["error"]["code"] == "run_not_found"


async def test_a_cancelled_delegation_from_outside_does_not_wait_for_its_client(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    task = user("Interrupt me.", Step(content="no", gate="interrupted"))["content"]
    async with gateway.client() as client:
        delegating = asyncio.create_task(adelegate(AGENT, task, client=client))
        await llm.wait_until(lambda traffic: traffic.waiting_at("interrupted") == 1)
        gone = llm.traffic.disconnects
        delegating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delegating
        await llm.wait_until(lambda traffic: traffic.disconnects == gone + 1)
