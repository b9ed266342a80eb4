"""A peer that answers nonsense, breaks off, or asks for more than was set aside."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from anyio.from_thread import start_blocking_portal
from openai import APIStatusError
from pydantic import SecretStr

from a2a_gateway.peer_settings import PeerSettings
from tests.error_texts.texts import pattern_of
from tests.support.gateway import GatewayUnderTest, gateway_in_thread, scripted_environ
from tests.support.rogue_peer import RoguePeer, rogue_peer

pytestmark = pytest.mark.anyio

NO_LLM = scripted_environ("http://127.0.0.1:9/v1")
UNTOLD = {"cost": "0.000000", "complete": False, "pending": True}


@pytest.fixture(scope="module")
def rogue() -> Iterator[RoguePeer]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(rogue_peer()) as peer:
        yield peer


@pytest.fixture(scope="module")
def mortal() -> Iterator[RoguePeer]:
    """One that can die, and then cannot be reached any more."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(rogue_peer()) as peer:
        yield peer


@pytest.fixture(scope="module")
def gateway(rogue: RoguePeer, mortal: RoguePeer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    """A gateway that has the rogue as three peers: each has a circuit breaker of its own."""
    peers = [
        PeerSettings(id=name, base_url=rogue.base_url, api_key=SecretStr("sk-of-the-rogue"), opaque=name == "plain")
        for name in ("rogue", "flaky", "plain")
    ]
    peers.append(PeerSettings(id="mortal", base_url=mortal.base_url, api_key=SecretStr("sk-of-the-rogue")))
    home = tmp_path_factory.mktemp("near")
    environ = {**NO_LLM, "OH_PERSISTENCE_DIR": str(home / "openhands")}
    with gateway_in_thread(
        home, environ, gateway_id="near", peers=peers, peer_refresh_s=600, shell_pool_size=0, llm_retries=2
    ) as running:
        yield running


async def call(gateway: GatewayUnderTest, model: str, timeout: str = "20") -> dict[str, Any]:
    """Ask for an answer; return what came of it: text or error, and what the run is recorded to have cost."""
    async with gateway.client() as client, gateway.http() as http:
        try:
            response = await client.chat.completions.with_raw_response.create(
                model=model,
                messages=[{"role": "user", "content": f"Hello {uuid4()}."}],  # a repeat would be given the same failure again
                extra_headers={"X-A2A-Budget-USD": "1", "X-A2A-Timeout": timeout},
            )
        except APIStatusError as error:
            run_id = error.response.headers["x-a2a-run-id"]
            come: dict[str, Any] = {"status": error.status_code, "code": error.code}
        else:
            run_id, come = response.headers["x-a2a-run-id"], {"text": response.parse().choices[0].message.content}
        run = (await http.get(f"/v1/runs/{run_id}")).json()
    assert run["cost"]["reserved"] == "0.000000"
    told = {name: value for name, value in run["cost"].items() if name in ("complete", "pending")}
    return {**come, "cost": run["cost"]["tree"], **told}


@pytest.mark.parametrize("fault", ["html", "whole", "garbage", "odd-chunk", "deep", "packed", "endless-line", "redirect"])
async def test_an_unreadable_answer_is_the_peers_fault_and_its_cost_is_asked_for_later(
    gateway: GatewayUnderTest, rogue: RoguePeer, fault: str
) -> None:
    before = rogue.received[fault]
    refused = {"status": 424, "code": "peer_rejected"}
    is_refusal = fault == "redirect"  # nothing was executed
    expected = {**refused, "cost": "0.000000", "complete": True} if is_refusal else {**refused, **UNTOLD}
    assert await call(gateway, f"rogue/openhands_{fault}") == expected
    assert rogue.received[fault] == before + 1


@pytest.mark.parametrize("fault", ["no-end", "breaks-off"])
async def test_a_peer_that_breaks_off_in_the_middle_is_lost_and_not_asked_again(
    gateway: GatewayUnderTest, rogue: RoguePeer, fault: str
) -> None:
    assert await call(gateway, f"rogue/openhands_{fault}") == {"status": 503, "code": "peer_unavailable", **UNTOLD}
    assert rogue.received[fault] == 1


@pytest.mark.parametrize("fault", ["hangs-up", "endless-headers"])
async def test_a_gateway_that_never_answers_gets_the_same_request_again_by_the_same_key(
    gateway: GatewayUnderTest, rogue: RoguePeer, fault: str
) -> None:
    assert await call(gateway, f"rogue/openhands_{fault}") == {"status": 503, "code": "peer_unavailable", **UNTOLD}
    assert rogue.received[fault] == 3
    assert rogue.headers["idempotency-key"]
    await call(gateway, "rogue/openhands_greedy")  # an answer closes the circuit breaker


async def test_a_peer_that_dies_with_a_request_in_hand_is_lost_not_merely_absent(
    gateway: GatewayUnderTest, mortal: RoguePeer
) -> None:
    assert await call(gateway, "mortal/openhands_dies") == {"status": 503, "code": "peer_unavailable", **UNTOLD}
    assert mortal.received["dies"] == 1


@pytest.mark.parametrize(("fault", "requests"), [("busy", 3), ("closed", 1)])
async def test_a_peer_that_is_full_is_asked_again_unless_it_forbids_that(
    gateway: GatewayUnderTest, rogue: RoguePeer, fault: str, requests: int
) -> None:
    assert (await call(gateway, f"plain/openhands_{fault}"))["code"] == "peer_unavailable"
    assert rogue.received[fault] == requests
    await call(gateway, "plain/openhands_greedy")


async def test_a_peer_that_stays_silent_is_given_up_when_the_time_of_the_run_is_over(gateway: GatewayUnderTest) -> None:
    ended = await call(gateway, "rogue/openhands_silent", timeout="0.5")
    assert ended == {"status": 504, "code": "deadline_exceeded", **UNTOLD}


async def test_a_plain_endpoint_that_may_have_done_something_is_not_asked_again(
    gateway: GatewayUnderTest, rogue: RoguePeer
) -> None:
    before = rogue.received["hangs-up"]
    ended = await call(gateway, "plain/openhands_hangs-up")
    assert ended == {"status": 503, "code": "peer_unavailable", "cost": "0.000000", "complete": False, "pending": False}
    assert rogue.received["hangs-up"] == before + 1
    assert "idempotency-key" not in rogue.headers


async def test_a_peer_that_wants_more_than_was_set_aside_gets_that_and_no_more(gateway: GatewayUnderTest) -> None:
    assert await call(gateway, "rogue/openhands_greedy") == {
        "text": "done",
        "cost": "1.000000",
        "complete": False,
        "pending": False,
    }


async def test_chunks_that_carry_nothing_are_left_out(gateway: GatewayUnderTest) -> None:
    assert await call(gateway, "rogue/openhands_empty-chunks") == {"text": "done", **UNTOLD}


FAR_RUN = {
    "id": "far-run",
    "agent": "openhands_x",
    "gateway": "the-rogue",
    "depth": 0,
    "state": "finished",
    "created_at": "2026-01-01T00:00:00.000Z",
    "seconds": 1.5,
    "turns": 1,
    "tokens": {"prompt": 10, "completion": 5},
    "cost": {"self": "0.010000", "tree": "0.010000", "complete": True},
    "descendants": 0,
    "limits": {"max_depth": 3},
    "children": [],
}


@pytest.mark.parametrize(
    ("tree", "gap"),
    [
        ("no JSON", "its response cannot be read"),
        ("[" * 100_000, "its response cannot be read"),
        ("[]", "in a form that cannot be read"),
        (json.dumps({**FAR_RUN, "cost": {"self": "-1", "tree": "lots", "complete": True}}), "in a form that cannot be read"),
        (json.dumps({**FAR_RUN, "seconds": 1}).replace('"seconds": 1', '"seconds": 1e999'), "cannot be read"),
        (json.dumps({**FAR_RUN, "children": [FAR_RUN] * 1000}), "more than 1000 runs"),
        (json.dumps({**FAR_RUN, "state": "x" * 301}), "in a form that cannot be read"),
    ],
)
async def test_a_tree_that_makes_no_sense_is_left_out_and_the_gap_says_why(
    gateway: GatewayUnderTest, rogue: RoguePeer, tree: str, gap: str
) -> None:
    rogue.tree = tree
    drawn = await tree_of(gateway, "rogue/openhands_greedy")
    assert gap in drawn["unreachable"]
    assert (drawn["gateway"], drawn["cost"]["self"], drawn["children"]) == ("rogue", "1.000000", [])


async def test_what_a_peer_draws_below_its_run_costs_no_more_here_than_it_was_paid(
    gateway: GatewayUnderTest, rogue: RoguePeer
) -> None:
    dear = {**FAR_RUN, "cost": {"self": "7", "tree": "7", "complete": True}, "injected": "<script>"}
    rogue.tree = json.dumps({**FAR_RUN, "children": [dear]})
    drawn = await tree_of(gateway, "rogue/openhands_greedy")
    assert (drawn["gateway"], drawn["cost"]["self"], drawn["cost"]["tree"]) == ("the-rogue", "0.000000", "1.000000")
    assert drawn["tokens"] == {"prompt": 10, "completion": 5, "cached": 0, "reasoning": 0}
    (child,) = drawn["children"]
    assert (child["id"], "injected" in child) == ("far-run", False)


async def tree_of(gateway: GatewayUnderTest, model: str) -> dict[str, Any]:
    """Run something, and return the tree of it."""
    async with gateway.client() as client, gateway.http() as http:
        message: Any = {"role": "user", "content": f"Hello {uuid4()}."}
        limits = {"X-A2A-Budget-USD": "1"}
        response = await client.chat.completions.with_raw_response.create(model=model, messages=[message], extra_headers=limits)
        tree = await http.get(f"/v1/runs/{response.headers['x-a2a-run-id']}/tree")
    assert tree.status_code == 200
    drawn: dict[str, Any] = tree.json()
    return drawn


@pytest.mark.parametrize("fault", ["negative", "not-a-number"])
async def test_an_amount_that_is_none_is_not_known(gateway: GatewayUnderTest, fault: str) -> None:
    assert await call(gateway, f"rogue/openhands_{fault}") == {"text": "done", **UNTOLD}


async def test_numbers_that_no_ledger_has_room_for_are_not_known_and_the_rest_is_booked(gateway: GatewayUnderTest) -> None:
    assert await call(gateway, "rogue/openhands_boastful") == {"text": "done", "cost": "0.500000", "complete": True}


async def test_a_peer_that_keeps_failing_is_left_alone_and_its_agents_are_gone_meanwhile(
    gateway: GatewayUnderTest, rogue: RoguePeer
) -> None:
    for _ in range(3):
        assert (await call(gateway, "flaky/openhands_flaky"))["status"] == 503
    received = rogue.received["flaky"]
    async with gateway.client() as client, gateway.http() as http:
        with pytest.raises(APIStatusError, match=pattern_of("peer_unavailable: it keeps failing")) as refused:
            await client.chat.completions.create(model="flaky/openhands_flaky", messages=[{"role": "user", "content": "Hi."}])
        listed = {model.id for model in (await client.models.list()).data}
        ready = (await http.get("/ready")).json()
        to_strangers = [(await http.get("/ready", headers={"authorization": said})).json() for said in ("", "Bearer sk-wrong")]
    assert (refused.value.status_code, refused.value.code) == (503, "peer_unavailable")
    assert refused.value.body["details"]["peer"] == "flaky"  # type: ignore[index]  # an error object
    assert "x-a2a-run-id" not in refused.value.response.headers
    assert rogue.received["flaky"] == received
    assert "flaky/openhands_flaky" not in listed
    assert "rogue/openhands_html" in listed
    assert (ready["status"], ready["peers"]["rogue"]) == ("ready", "ok")
    assert "3 times in a row" in ready["peers"]["flaky"]
    down = sum(state != "ok" for state in ready["peers"].values())
    counted = {"status": "ready", "peers_ok": len(ready["peers"]) - down, "peers_down": down}
    assert (to_strangers, {**counted, "peers": ready["peers"]}) == ([counted, counted], ready)
