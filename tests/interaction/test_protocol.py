"""The delegation protocol as a caller sees it on the wire: limits, what responses contain, and the refusals of its table."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from a2a_gateway.runs.model import RunId, RunState, TokenUsage
from a2a_gateway.settings import Settings
from a2a_gateway.stores import SpendBy, open_store, sqlite_url
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.interaction.conftest import PROFILES
from tests.stores.ledger_bench import Bench, SteppedClock
from tests.support.ask import call, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway
from tests.support.sse import decode_events
from tests.support.until import block_until

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"
OLD_RUN = RunId("run-of-2023")
CHAT = "/v1/chat/completions"
ALWAYS = {
    "x-request-id",
    "x-a2a-protocol",
    "x-a2a-run-id",
    "x-a2a-tree-id",
    "x-a2a-depth",
    "x-a2a-max-depth",
    "x-a2a-timeout",
    "x-openhands-serverconversation-id",
}
AT_THE_END = {"x-a2a-cost-usd", "x-a2a-cost-self-usd", "x-a2a-cost-complete", "x-a2a-budget-remaining-usd", "x-a2a-stop-reason"}


@pytest.fixture(scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    """A gateway that is full with two trees, and in which no request waits for long; of a run of 2023 it still has the record."""
    data_dir = tmp_path_factory.mktemp("small")
    asyncio.run(run_in_2023(data_dir))
    limits = {"max_concurrent_runs": 2, "max_queued_runs": 0, "queue_timeout_s": 0.05}
    with scripted_gateway(data_dir, PROFILES, shell_pool_size=0, **limits) as pair:
        yield pair


async def run_in_2023(data_dir: Path) -> None:
    async with open_store(url := sqlite_url(data_dir / "gateway.db"), clock := SteppedClock()) as store:
        bench = Bench(store, clock, (await store.keys.create_key("old"))[0], url)
        await bench.running(OLD_RUN)
        await bench.turn(OLD_RUN, TokenUsage(10, 1), 5)
        await store.ledger.close_run(OLD_RUN, RunState.FINISHED, stop_reason="finished")
        await store.keys.revoke("old")  # the gateway makes a first key where there is none


@pytest.fixture
def small(_small: tuple[GatewayUnderTest, ScriptedLLM]) -> GatewayUnderTest:
    return _small[0]


@pytest.fixture
def small_llm(_small: tuple[GatewayUnderTest, ScriptedLLM]) -> ScriptedLLM:
    return _small[1]


async def test_a_run_older_than_the_retention_is_gone_and_what_it_cost_is_not(small: GatewayUnderTest) -> None:
    store = small.running.gateway.started.result().store
    await asyncio.to_thread(block_until, lambda: small.portal.call(store.ledger.get_run, OLD_RUN) is None)
    (line,) = await asyncio.to_thread(small.portal.call, partial(store.spending.lines, SpendBy.DAY, until=date(2023, 12, 31)))
    assert (line.name, line.calls, line.cost_micro_usd) == ("2023-11-14", 1, 5)


def asks(text: str, *steps: Step, **more: Any) -> dict[str, Any]:
    return {"model": PRICED, "messages": [user(text, *steps)], **more}


def header_names(response: httpx.Response) -> set[str]:
    """Return the names of all headers of the protocol in a response."""
    return {name for name in response.headers if name in ALWAYS or name.startswith("x-a2a-")}


def test_the_defaults_are_those_of_the_protocol() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert {name: defaults[name] for name in ("max_depth", "max_breadth", "max_runs", "timeout_s", "max_turns")} == {
        "max_depth": 3,
        "max_breadth": 5,
        "max_runs": 50,
        "timeout_s": 1800,
        "max_turns": 100,
    }
    assert (defaults["budget_usd"], defaults["max_concurrent_runs"], defaults["idempotency_ttl_s"]) == ("10", 100, 24 * 3600)
    assert (defaults["disconnect_grace_s"], defaults["heartbeat_s"], defaults["body_limit_bytes"]) == (10, 15, 32 * 1024 * 1024)


LIMITS = [
    ("max_depth", "X-A2A-Max-Depth", "max_depth", 2, 2, 99, 25),
    ("max_runs", "X-A2A-Max-Runs", "max_runs", 3, 3, 9_999, 500),
    ("max_breadth", "X-A2A-Max-Breadth", "max_breadth", 1, 1, 99, 5),
    ("timeout_s", "X-A2A-Timeout", "timeout_s", 7.5, 7.5, 99_999, 1800),
    ("max_turns", "X-A2A-Max-Turns", "max_turns", 2, 2, 999, 100),
    ("budget_usd", "X-A2A-Budget-USD", "budget_usd", "0.50", "0.500000", "999", "10.000000"),
    ("allowed_agents", "X-A2A-Allowed-Agents", "allowed_agents", "x, b/y", ["b/y", "openhands_x"], "b/y,b/z", ["b/y", "b/z"]),
]


@pytest.mark.parametrize(
    ("name", "header", "sent_value", "less", "held", "more", "clamped"), LIMITS, ids=[row[0] for row in LIMITS]
)
async def test_a_request_narrows_a_limit_in_a_header_or_in_its_body_and_widens_none(
    gateway: GatewayUnderTest, name: str, header: str, sent_value: str, less: Any, held: Any, more: Any, clamped: Any
) -> None:
    both = ["b/y"] if name == "allowed_agents" else held
    cases = [({header: less}, {}, held), ({}, {name: less}, held), ({header: more}, {}, clamped), ({}, {name: more}, clamped)]
    cases += [({header: less}, {name: more}, both), ({header: more}, {name: less}, both)]
    seen = []
    async with gateway.http() as http:
        for headers, a2a, _ in cases:
            asked = asks(str(uuid4()), Step(content="ok"), **({"a2a": a2a} if a2a else {}))
            response = await http.post(CHAT, json=asked, headers={key: str(value) for key, value in headers.items()})
            run = (await http.get(f"/v1/runs/{response.headers['x-a2a-run-id']}")).json()
            seen.append(run["limits"][sent_value])
            if name == "max_depth":
                assert response.headers["x-a2a-max-depth"] == str(run["limits"]["max_depth"])
            if name == "timeout_s":
                assert run["limits"]["timeout_s"] - 5 < float(response.headers["x-a2a-timeout"]) <= run["limits"]["timeout_s"]
    assert seen == [effective for _, _, effective in cases]


@pytest.mark.parametrize(
    ("header", "values"),
    {
        "X-A2A-Max-Depth": ["", "-1", "1.5", "deep"],
        "X-A2A-Depth": ["-1", "+1"],
        "X-A2A-Budget-USD": ["", "-1", "1e3", "0.0000001", "NaN"],
        "X-A2A-Max-Runs": ["-1", "1,2"],
        "X-A2A-Max-Breadth": ["0", "many"],
        "X-A2A-Timeout": ["0", "-1", "soon", "inf", "1e3"],
        "X-A2A-Max-Turns": ["0", "x"],
        "X-A2A-Allowed-Agents": ["a b", "a;b"],
        "X-A2A-Via": ["a b"],
        "X-A2A-On-Disconnect": ["", "wait"],
        "X-A2A-Narration": ["loud"],
        "X-A2A-Workspace": ["", "src", "./src", "/src/../etc", "/src%00", "/%ff", "/" + "x" * 1024],
        "Idempotency-Key": ["", "two words", "x" * 256],
        "X-OpenHands-ServerConversation-ID": ["", "7"],
    }.items(),
)
async def test_a_malformed_value_is_refused_by_name_and_never_ignored(
    gateway: GatewayUnderTest, llm: ScriptedLLM, header: str, values: list[str]
) -> None:
    before = llm.traffic.received
    async with gateway.http() as http:
        for value in values:
            refused = await http.post(CHAT, json=asks("Hi.", Step(content="no")), headers={header: value})
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_request_error", header), value
            assert refused.headers["x-should-retry"] == "false"
            assert "x-a2a-run-id" not in refused.headers
    assert llm.traffic.received == before


@pytest.mark.parametrize("written", ["x-a2a-max-dept", "X_A2A_Max_Depth"])
async def test_a_misspelt_header_is_refused_and_nothing_runs(gateway: GatewayUnderTest, llm: ScriptedLLM, written: str) -> None:
    before = llm.traffic.received
    async with gateway.http() as http:
        refused = await http.post(CHAT, json=asks("Hi.", Step(content="no")), headers={written: "0"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_request_error", written.lower())
    assert "X-A2A-Max-Depth?" in error["message"]
    assert llm.traffic.received == before


async def test_a_header_of_a_later_version_from_another_gateway_is_ignored_and_named(gateway: GatewayUnderTest) -> None:
    headers = {"X-A2A-Via": "newer-box", "X-A2A-Quux": "1"}
    async with gateway.http() as http:
        answered = await http.post(CHAT, json=asks("Hi.", Step(content="ok")), headers=headers)
    assert (answered.status_code, answered.headers["x-a2a-ignored"]) == (200, "x-a2a-quux")


async def test_headers_of_answers_may_come_back_in_a_request(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        first = await http.post(CHAT, json=asks("Hi.", Step(content="ok")))
        returned = {name: value for name, value in first.headers.items() if name.startswith("x-a2a-")}
        again = await http.post(CHAT, json=asks("Hi again.", Step(content="ok")), headers=returned)
    assert again.status_code == 200
    assert again.headers["x-a2a-run-id"] != first.headers["x-a2a-run-id"]


async def test_a_depth_that_is_claimed_raises_the_depth_up_to_what_is_allowed(gateway: GatewayUnderTest) -> None:
    async with gateway.http() as http:
        inside = await http.post(CHAT, json=asks("Hi.", Step(content="ok")), headers={"X-A2A-Depth": "25"})
        beyond = await http.post(CHAT, json=asks("Hi!", Step(content="no")), headers={"X-A2A-Depth": "26"})
    assert (inside.status_code, inside.headers["x-a2a-depth"], inside.headers["x-a2a-max-depth"]) == (200, "25", "25")
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (403, "delegation_depth_exceeded")
    assert beyond.json()["error"]["details"] == {"depth": 26, "max_depth": 25, "runs_left": 500}


OUTCOMES = {
    "answered": ({}, (Step(content="ok"),), 200, "finished"),
    "failed": ({}, (Step(status=400, error="no"),), 400, "llm_bad_request"),
    "limited": (
        {"X-A2A-Max-Turns": "1"},
        (Step(content="Look:", tool_calls=(call("terminal", command="true"),)),),
        200,
        "max_turns",
    ),
    "late": ({"X-A2A-Timeout": "0.3"}, (Step(hang=True),), 504, "deadline_exceeded"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("headers", "steps", "status", "reason"), OUTCOMES.values(), ids=list(OUTCOMES))
async def test_every_response_of_a_run_has_its_depth_and_the_end_has_its_cost(
    small: GatewayUnderTest, headers: dict[str, str], steps: tuple[Step, ...], status: int, reason: str, stream: bool
) -> None:
    async with small.http() as http:
        response = await http.post(CHAT, json=asks(str(uuid4()), *steps, stream=stream), headers=headers)
    is_stream = stream and status == 200
    assert (response.status_code, header_names(response)) == (status, ALWAYS if is_stream else ALWAYS | AT_THE_END)
    if not is_stream:
        assert response.headers["x-a2a-stop-reason"] == reason
        is_complete = response.headers["x-a2a-cost-complete"] == "true"  # a call that was cut off is not
        assert response.headers.get("x-litellm-response-cost") == (response.headers["x-a2a-cost-usd"] if is_complete else None)
    if status == 200:
        assert ("length" if reason == "max_turns" else "stop") in response.text
    else:
        assert response.json()["error"]["details"]["run_id"] == response.headers["x-a2a-run-id"]
        assert response.headers["x-should-retry"] == "false"


async def test_a_limit_with_text_to_show_is_an_answer_that_says_which(gateway: GatewayUnderTest) -> None:
    steps = (Step(content="Look:", tool_calls=(call("terminal", command="true"),)),)
    async with gateway.http() as http:
        limited = await http.post(CHAT, json=asks("Limited.", *steps), headers={"X-A2A-Max-Turns": "1"})
    choice, usage = limited.json()["choices"][0], limited.json()["usage"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "Look:")
    assert usage["delegation"]["stop_reason"] == limited.headers["x-a2a-stop-reason"] == "max_turns"


@dataclass(frozen=True)
class Parent:
    """A run that is under way, and a client that presents its token; `task` is what it was asked."""

    http: httpx.AsyncClient
    run_id: str
    task: dict[str, Any]
    conversation_id: str


@asynccontextmanager
async def parent(gateway: GatewayUnderTest, llm: ScriptedLLM, **headers: str) -> AsyncIterator[Parent]:
    gate = str(uuid4())
    task = asks(f"Lead {gate}.", Step(content="done", gate=Gate(gate)))
    service = gateway.running.gateway.started.result().service
    async with gateway.http() as http:
        leading = asyncio.create_task(
            http.post(CHAT, json=task, headers={f"X-A2A-{name}": value for name, value in headers.items()})
        )
        await llm.wait_until(lambda traffic: traffic.waiting_at(gate) == 1)
        (live,) = [live for live in service.live_runs if live.record.parent_id is None]
        async with gateway.http(service.tokens.mint(live.record)) as child:
            yield Parent(child, live.record.id, task, live.record.conversation_id)
        llm.open_gate(gate)
        assert (await leading).status_code == 200


REFUSALS = [
    ({"Max_Depth": "0"}, 403, "delegation_depth_exceeded"),
    ({"Max_Runs": "0"}, 403, "delegation_runs_exhausted"),
    ({"Allowed_Agents": "openhands_mute"}, 403, "agent_not_allowed"),
]


@pytest.mark.parametrize(("limits", "status", "code"), REFUSALS, ids=[row[2] for row in REFUSALS])
async def test_a_child_beyond_a_limit_of_its_parent_is_refused_with_what_is_known(
    small: GatewayUnderTest, small_llm: ScriptedLLM, limits: dict[str, str], status: int, code: str
) -> None:
    headers = {name.replace("_", "-"): value for name, value in limits.items()}
    async with parent(small, small_llm, **headers) as above:
        refused = await above.http.post(CHAT, json=asks("Below.", Step(content="no")))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], refused.headers["x-should-retry"]) == (status, code, "false")
    assert {"depth", "max_depth", "runs_left", "budget_remaining_usd", "run_id", "tree_id"} <= set(error["details"])
    assert (error["details"]["run_id"], error["details"]["depth"]) == (above.run_id, 1)
    assert "x-a2a-run-id" not in refused.headers


async def test_the_task_of_an_ancestor_and_its_conversation_are_refused_to_a_child(
    small: GatewayUnderTest, small_llm: ScriptedLLM
) -> None:
    async with parent(small, small_llm) as above:
        cycle = await above.http.post(CHAT, json=above.task)
        conversation = {"X-OpenHands-ServerConversation-ID": above.conversation_id}
        busy = await above.http.post(CHAT, json=asks("Go on.", Step(content="no")), headers=conversation)
    assert (cycle.status_code, cycle.json()["error"]["code"]) == (403, "delegation_cycle_detected")
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "conversation_busy")
    assert [response.headers["x-should-retry"] for response in (cycle, busy)] == ["false", "false"]


async def test_too_many_live_children_and_a_full_gateway_are_told_when_to_come_again(
    small: GatewayUnderTest, small_llm: ScriptedLLM
) -> None:
    async with parent(small, small_llm, **{"Max-Breadth": "1"}) as above, small.http() as http:
        first = asyncio.create_task(above.http.post(CHAT, json=asks("First child.", Step(content="ok", gate="first-child"))))
        await small_llm.wait_until(lambda traffic: traffic.waiting_at("first-child") == 1)
        second = await above.http.post(CHAT, json=asks("Second child.", Step(content="no")))
        beside = asyncio.create_task(http.post(CHAT, json=asks("Beside.", Step(content="ok", gate="beside"))))
        await small_llm.wait_until(lambda traffic: traffic.waiting_at("beside") == 1)
        full = await http.post(CHAT, json=asks("One too many.", Step(content="no")))
        for gate in ("first-child", "beside"):
            small_llm.open_gate(gate)
        assert [(await task).status_code for task in (first, beside)] == [200, 200]
    for response, code in ((second, "delegation_breadth_exceeded"), (full, "capacity_exceeded")):
        assert (response.status_code, response.json()["error"]["code"]) == (429, code)
        assert response.headers["x-should-retry"] == "true"
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert "x-a2a-run-id" not in response.headers


async def test_a_run_token_is_always_told_the_usage_of_its_child(small: GatewayUnderTest, small_llm: ScriptedLLM) -> None:
    async with parent(small, small_llm) as above:
        asked = asks("Below.", Step(content="well", usage=Usage(100, 10)), stream=True)
        streamed = await above.http.post(CHAT, json=asked)
    *_, last, done = [event.data for event in decode_events(streamed.content)]
    usage = json.loads(last)["usage"]
    assert (done, json.loads(last)["choices"]) == ("[DONE]", [])
    assert (usage["prompt_tokens"], usage["cost_details"]["self"], usage["delegation"]["depth"]) == (100, "0.000120", 1)
    assert usage["delegation"]["parent"]["runs_left"] == 49
