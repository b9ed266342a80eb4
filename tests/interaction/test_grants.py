"""Two gateways that know each other by keys: what a grant opens, and what no client can do with one."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from anyio.from_thread import start_blocking_portal
from openai import APIStatusError, AsyncOpenAI

from a2a_gateway.host.clock import SystemClock
from a2a_gateway.peer_settings import PeerPolicy, PeerSettings
from a2a_gateway.peers.grant import Signer, encode_ask, encode_grant
from a2a_gateway.peers.signing_key import SigningKey
from a2a_gateway.runs.model import Grant
from a2a_gateway.testing.script import Gate, Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.limits import LimitPolicy
from tests.error_texts.texts import pattern_of
from tests.support.ask import call, content_of, delegation, direct, user
from tests.support.gateway import GatewayUnderTest, free_port, gateway_in_thread, scripted_environ
from tests.support.rogue_peer import RoguePeer, rogue_peer
from tests.support.until import until

pytestmark = pytest.mark.anyio

LEAD = """---
name: lead
description: Leads.
tools: [delegate]
a2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}
---
You lead."""
CENT = Usage(10_000, 0)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "0123456789abcdef" * 2


@dataclass(frozen=True)
class Pair:
    """`desk` calls `box`, which fetches the key that `desk` publishes; `thief` gets what `desk` means for `box`."""

    desk: GatewayUnderTest
    box: GatewayUnderTest
    thief: RoguePeer
    llm: ScriptedLLM
    key: SigningKey


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    key = SigningKey.open(home / "desk")
    port, desk_port = free_port(), free_port()
    jwks_url = f"http://127.0.0.1:{desk_port}/.well-known/jwks.json"

    def begin(stack: ExitStack, name: str, llm: ScriptedLLM, *peers: PeerSettings, **settings: Any) -> GatewayUnderTest:
        directory = home / name
        (directory / "test-profiles").mkdir(parents=True, exist_ok=True)
        for agent in ("lead", "other"):
            (directory / "test-profiles" / f"{agent}.md").write_text(LEAD.replace("name: lead", f"name: {agent}"))
        environ = scripted_environ(llm.base_url, OH_PERSISTENCE_DIR=str(directory / "openhands"), SHARED=SECRET)
        options = {"gateway_id": name, "peers": peers, "disconnect_grace_s": 60, "shell_pool_size": 0, **settings}
        return stack.enter_context(gateway_in_thread(directory, environ, **options))

    policy = PeerPolicy(agents=frozenset({"openhands_lead"}), budget_usd="0.40", max_depth=2, budget_per_day_usd="5")
    with ExitStack() as stack:
        llm = stack.enter_context(ScriptedLLM.in_thread(direct=direct))
        portal = stack.enter_context(start_blocking_portal())
        thief = stack.enter_context(portal.wrap_async_context_manager(rogue_peer()))
        box = begin(
            stack,
            "box",
            llm,
            PeerSettings(id="my-desk", gateway_id="desk", jwks_url=jwks_url, accepts=policy),
            PeerSettings(id="third", shared_secret_env="SHARED"),
            PeerSettings(id="busy", shared_secret_env="SHARED", accepts=PeerPolicy(max_concurrent_runs=1)),
            port=port,
        )
        desk = begin(
            stack,
            "desk",
            llm,
            PeerSettings(id="box", base_url=f"http://127.0.0.1:{port}/v1"),
            PeerSettings(id="thief", gateway_id="box", base_url=thief.base_url),
            port=desk_port,
        )
        yield Pair(desk, box, thief, llm, key)


async def ask(gateway: GatewayUnderTest, model: str, message: Any, **headers: str) -> tuple[str, dict[str, Any]]:
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=model, messages=[message], extra_headers=headers)
    assert completion.usage is not None
    return completion.choices[0].message.content or "", completion.usage.model_dump()


async def refusal(gateway: GatewayUnderTest, token: str, model: str = "openhands_lead", **headers: str) -> tuple[int, str]:
    """Send a chat request with a token; return status and code of the refusal."""
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=token, max_retries=0) as client:
        with pytest.raises(APIStatusError) as refused:
            await client.chat.completions.create(model=model, messages=[user("Hi.", Step(content="no"))], extra_headers=headers)
    return refused.value.status_code, str(refused.value.code)


async def stolen(pair: Pair, **headers: str) -> str:
    """Get a grant that `desk` has made for `box`, as a thief could."""
    async with pair.desk.client() as client:
        with pytest.raises(APIStatusError):
            await client.chat.completions.create(
                model="thief/openhands_lead", messages=[user(f"Steal {uuid4()}.")], extra_headers=headers
            )
    return pair.thief.headers["authorization"].removeprefix("Bearer ")


def grant_of_desk(pair: Pair, **changes: Any) -> Grant:
    """Return a grant as `desk` would make it."""
    grant = Grant(
        issuer="desk",
        run_id=str(uuid4()),
        tree_id="tree",
        jti=uuid4().hex,
        expires_at=SystemClock().now() + 60,
        agent="openhands_lead",
        depth=1,
        policy=LimitPolicy(3, 5, 20, 30.0, 100, 100_000),
        actors=("desk/openhands_lead",),
    )
    return replace(grant, **changes)


def sign(pair: Pair, grant: Grant, *, audience: str = "box", key: SigningKey | None = None) -> str:
    own = key or pair.key
    return encode_grant(grant, audience=audience, signer=Signer("EdDSA", own.private, own.kid), now=SystemClock().now())


async def test_a_peer_at_its_limit_is_refused_and_its_grant_stays_good(pair: Pair) -> None:
    first, second = [
        encode_grant(grant_of_desk(pair, issuer="busy"), audience="box", signer=Signer("HS256", SECRET), now=SystemClock().now())
        for _ in range(2)
    ]
    async with pair.box.http(key=first) as one, pair.box.http(key=second) as other:

        def chat_body(task: str, step: Step) -> dict[str, Any]:
            return {"model": "openhands_lead", "messages": [user(task, step)]}

        begun = asyncio.create_task(one.post("/v1/chat/completions", json=chat_body("First.", Step(content="ok", gate="busy"))))
        await pair.llm.wait_until(lambda traffic: traffic.waiting_at("busy") == 1)
        refused = await other.post("/v1/chat/completions", json=chat_body("Second.", Step(content="ok")))
        pair.llm.open_gate("busy")
        assert (await begun).status_code == 200
        again = await other.post("/v1/chat/completions", json=chat_body("Second.", Step(content="ok")))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], refused.headers["retry-after"]) == (429, "capacity_exceeded", "5")
    assert error["details"] == {"scope": "key", "max_concurrent_runs": 1}
    assert again.status_code == 200


async def test_a_run_crosses_by_a_grant_and_is_paid(pair: Pair) -> None:
    there = delegation("box/openhands_lead", "At the box.", Step(content="from the box", usage=CENT))
    text, usage = await ask(pair.desk, "openhands_lead", user("Go.", Step(tool_calls=(there,)), Step(content="answered: $LAST")))
    assert "from the box" in text
    assert usage["cost_details"]["descendants"] == "0.010000"
    async with pair.desk.http() as http:
        tree = (await http.get(f"/v1/runs/{usage['delegation']['run_id']}/tree")).json()
    (child,) = tree["children"]
    assert (child["agent"], child["depth"], child["gateway"]) == ("box/openhands_lead", 1, "box")
    record = await at_box(pair, child["id"])
    assert record["origin"] == f"desk/{child['id']}"
    assert (record["depth"], record["limits"]["max_depth"]) == (1, 2)
    assert record["limits"]["budget_usd"] == "0.400000"


async def test_a_peer_finds_its_runs_also_after_their_idempotency_keys_have_expired(pair: Pair) -> None:
    _, usage = await ask(pair.desk, "box/openhands_lead", user("Go.", Step(content="long ago", usage=CENT)))
    run_id = usage["delegation"]["run_id"]
    ledger = pair.box.running.gateway.started.result().store.ledger
    pair.box.portal.call(ledger.forget_expired, SystemClock().now() + 2 * 86_400)
    assert (await at_box(pair, run_id))["origin"] == f"desk/{run_id}"


async def test_a_peer_sees_no_files_of_profiles(pair: Pair) -> None:
    async with pair.box.http(ask_token(pair)) as http:
        statuses = [(await http.get(path)).status_code for path in ("/v1/models", "/v1/profiles")]
    assert statuses == [200, 403]


def ask_token(pair: Pair) -> str:
    """Make the token with which the desk asks the box."""
    return encode_ask("desk", audience="box", signer=Signer("EdDSA", pair.key.private, pair.key.kid), now=SystemClock().now())


async def at_box(pair: Pair, run_id: str) -> dict[str, Any]:
    """Return what the box shows its peer of a run that the peer has started there."""
    async with pair.box.http(ask_token(pair)) as http:
        (found,) = (await http.get("/v1/runs", params={"idempotency_key": run_id})).json()["data"]
        record: dict[str, Any] = (await http.get(f"/v1/runs/{found['id']}")).json()
    return record


async def test_a_peer_that_may_call_every_agent_lists_models_but_no_profiles(pair: Pair) -> None:
    token = encode_ask("third", audience="box", signer=Signer("HS256", SECRET), now=SystemClock().now())
    async with pair.box.http(token) as http:
        models, profiles = [await http.get(path) for path in ("/v1/models", "/v1/profiles")]
    assert models.status_code == 200
    assert (profiles.status_code, profiles.json()["error"]["code"]) == (403, "admission_refused")


async def test_a_cancelled_caller_stops_the_run_at_its_peer(pair: Pair) -> None:
    message = user("Go.", Step(content="never", gate="at-the-box"))
    async with pair.desk.client() as client, pair.desk.http() as http:
        asking = asyncio.create_task(
            client.chat.completions.create(
                model="box/openhands_lead", messages=[message], extra_headers={"Idempotency-Key": "grant-cancel"}
            )
        )
        await pair.llm.wait_until(lambda traffic: traffic.waiting_at("at-the-box") == 1)
        gone = pair.llm.traffic.disconnects
        await http.post("/v1/runs/cancel", headers={"Idempotency-Key": "grant-cancel"})
        await pair.llm.wait_until(lambda traffic: traffic.disconnects == gone + 1)
        with pytest.raises(APIStatusError) as cancelled:
            await asking
    assert cancelled.value.code == "run_cancelled"


async def test_the_peers_own_policy_stands_above_every_grant(pair: Pair) -> None:
    async with pair.desk.client() as client:
        listed = {model.id for model in (await client.models.list()).data}
        with pytest.raises(APIStatusError) as other:
            await client.chat.completions.create(model="box/openhands_other", messages=[user("Hi.", Step(content="no"))])
    assert "box/openhands_lead" in listed
    assert "box/openhands_other" not in listed
    assert other.value.code == "model_not_found"
    assert await refusal(pair.box, sign(pair, grant_of_desk(pair, agent="openhands_other")), "openhands_other") == (
        403,
        "agent_not_allowed",
    )
    assert await refusal(pair.box, sign(pair, grant_of_desk(pair, depth=3))) == (403, "delegation_depth_exceeded")


async def test_a_stolen_grant_opens_the_run_it_is_for_and_nothing_else_and_only_once(pair: Pair) -> None:
    token = await stolen(pair, **{"X-A2A-Budget-USD": "0.05"})
    assert await refusal(pair.box, token, "openhands_other") == (403, "agent_not_allowed")
    async with pair.box.http(token) as http:
        for path in ("/v1/runs", "/v1/models", "/v1/profiles"):
            assert (await http.get(path)).json()["error"]["code"] == "invalid_api_key"
        assert (await http.post("/v1/runs/cancel", headers={"Idempotency-Key": "x"})).status_code == 401

    wide = {"X-A2A-Budget-USD": "100", "X-A2A-Max-Depth": "9", "X-A2A-Timeout": "99999", "X-A2A-Depth": "0"}
    async with AsyncOpenAI(base_url=pair.box.base_url, api_key=token, max_retries=0) as client:
        body: Any = {"model": "openhands_lead", "messages": [user("Spend.", Step(content="spent", usage=CENT))]}
        opened = await client.chat.completions.with_raw_response.create(**body, extra_headers=wide)
        told: Any = opened.parse().usage
        # Also the same request again, which would be a repeat if it came with a fresh grant.
        with pytest.raises(APIStatusError, match=pattern_of("invalid_api_key: a grant is used twice")) as again:
            await client.chat.completions.create(**body, extra_headers=wide)
    assert (told.delegation["budget"], told.delegation["depth"], told.delegation["max_depth"]) == ("0.050000", 0, 2)
    assert float(opened.headers["x-a2a-timeout"]) <= 1800
    assert (again.value.status_code, again.value.code) == (401, "invalid_api_key")


async def test_a_fresh_grant_for_the_same_run_gets_that_run_again(pair: Pair) -> None:
    grant = grant_of_desk(pair)
    body: Any = {"model": "openhands_lead", "messages": [user("Once.", Step(content="once", usage=CENT))]}
    before = pair.llm.traffic.received
    seen = []
    for jti in ("first", "second"):
        async with AsyncOpenAI(base_url=pair.box.base_url, api_key=sign(pair, replace(grant, jti=uuid4().hex + jti))) as client:
            seen.append((await client.chat.completions.with_raw_response.create(**body)).headers)
    assert seen[0]["x-a2a-run-id"] == seen[1]["x-a2a-run-id"]
    assert seen[1]["x-a2a-idempotent-replay"] == "true"
    assert pair.llm.traffic.received == before + 1


async def test_grants_that_are_late_foreign_or_forged_open_nothing(pair: Pair) -> None:
    before = pair.llm.traffic.received
    grant = grant_of_desk(pair)
    late = sign(pair, replace(grant, expires_at=SystemClock().now() - 1))
    assert await refusal(pair.box, late) == (401, "invalid_api_key")
    assert await refusal(pair.box, sign(pair, grant, audience="desk")) == (401, "invalid_api_key")
    assert await refusal(pair.desk, sign(pair, grant)) == (401, "invalid_api_key")
    assert await refusal(pair.box, sign(pair, grant, key=SigningKey.generate())) == (401, "invalid_api_key")
    assert await refusal(pair.box, sign(pair, replace(grant, issuer="unknown"))) == (401, "invalid_api_key")
    assert await refusal(pair.box, ask_token(pair)) == (401, "invalid_api_key")
    # The box's own agents have run tokens, which are of another type and by another key.
    forged = jwt.encode(
        {"iss": "box", "sub": grant.run_id, "txn": "x", "exp": 2**33}, "k" * 32, algorithm="HS256", headers={"typ": "a2a-run+jwt"}
    )
    assert await refusal(pair.box, forged) == (401, "invalid_api_key")
    assert pair.llm.traffic.received == before


async def test_a_grant_says_who_led_to_it_and_holds_what_is_left(pair: Pair) -> None:
    there = call("delegate", agent="thief/openhands_lead", task="At the thief's.", budget_usd="0.03")
    steps = Step(tool_calls=(there,), usage=CENT), Step(content="well")
    await ask(
        pair.desk, "openhands_lead", user("Go.", *steps), **{"X-A2A-Max-Runs": "7", "X-A2A-Timeout": "50"}, traceparent=TRACE
    )
    token = pair.thief.headers["authorization"].removeprefix("Bearer ")
    told = jwt.decode(token, pair.key.private.public_key(), algorithms=["EdDSA"], audience="box", issuer="desk")
    assert told["act"] == {"sub": "desk/thief/openhands_lead", "act": {"sub": "desk/openhands_lead"}}
    assert (told["depth"], told["depth_left"], told["runs"], told["budget_usd"]) == (1, 2, 6, "0.030000")
    assert told["timeout_s"] < 50
    assert told["exp"] - told["iat"] < 50 + 60
    assert (pair.thief.headers["x-a2a-via"], pair.thief.headers["traceparent"]) == ("desk", TRACE)


async def test_a_peer_that_is_added_is_known_at_once_and_one_whose_key_is_revoked_no_more(pair: Pair) -> None:
    store = pair.box.running.gateway.started.result().store
    laptop = SigningKey.generate()
    grant = grant_of_desk(pair, issuer="laptop")
    assert await refusal(pair.box, sign(pair, grant, key=laptop)) == (401, "invalid_api_key")
    pair.box.portal.call(store.peers.add_peer, PeerSettings(id="laptop", public_key=laptop.public_key))

    body: Any = {"model": "openhands_other", "messages": [user("Hi.", Step(content="hello", usage=CENT))]}
    other = replace(grant, agent="openhands_other")
    async with AsyncOpenAI(base_url=pair.box.base_url, api_key=sign(pair, other, key=laptop), max_retries=0) as client:
        assert (await client.chat.completions.create(**body)).choices[0].message.content == "hello"
    spent = {key.name: key.spent_micro_usd for key in pair.box.portal.call(store.keys.list_keys)}
    assert spent["peer:laptop"] == 10_000

    pair.box.portal.call(store.keys.revoke, "peer:laptop")
    fresh = sign(pair, replace(other, jti=uuid4().hex, run_id=str(uuid4())), key=laptop)
    assert await refusal(pair.box, fresh, "openhands_other") == (401, "invalid_api_key")


async def test_revoking_a_peer_stops_what_it_has_running(pair: Pair) -> None:
    store = pair.box.running.gateway.started.result().store
    guest = SigningKey.generate()
    pair.box.portal.call(store.peers.add_peer, PeerSettings(id="guest", public_key=guest.public_key))
    steps = Step(tool_calls=(call("delegate", agent="missing", task="x"),), gate="revoked-meanwhile"), Step(content="never")
    token = sign(pair, grant_of_desk(pair, issuer="guest"), key=guest)
    async with AsyncOpenAI(base_url=pair.box.base_url, api_key=token, max_retries=0) as client:
        asking = asyncio.create_task(client.chat.completions.create(model="openhands_lead", messages=[user("Go.", *steps)]))
        await pair.llm.wait_until(lambda traffic: traffic.waiting_at("revoked-meanwhile") == 1)
        pair.box.portal.call(store.keys.revoke, "peer:guest")
        received = pair.llm.traffic.received
        pair.llm.open_gate("revoked-meanwhile")
        with pytest.raises(APIStatusError) as stopped:
            await asking
    assert stopped.value.code == "run_cancelled"
    assert pair.llm.traffic.received == received


async def test_a_peer_that_is_removed_keeps_its_connection_until_its_last_run_has_ended(pair: Pair) -> None:
    engine = pair.desk.running.gateway.started.result()
    store, directory = engine.store, engine.directory
    late = PeerSettings(id="late", gateway_id="box", base_url=pair.box.base_url)
    pair.desk.portal.call(store.peers.add_peer, late)
    pair.desk.portal.call(directory.refresh)
    peer = directory.peer("late")
    message = user("Go.", Step(content="One two three.", gate=Gate("removed-meanwhile", after=2)))
    async with pair.desk.client() as client:
        stream = await client.chat.completions.create(model="late/openhands_lead", messages=[message], stream=True)
        await pair.llm.wait_until(lambda traffic: traffic.waiting_at("removed-meanwhile") == 1)
        pair.desk.portal.call(store.peers.remove_peer, "late")
        pair.desk.portal.call(directory.refresh)
        assert (directory.find("late/openhands_lead"), peer.client.is_closed()) == (None, False)
        pair.llm.open_gate("removed-meanwhile")
        assert content_of([chunk async for chunk in stream]) == "One two three."
    await until(peer.client.is_closed)


async def test_the_published_key_is_the_one_in_the_data_directory(pair: Pair) -> None:
    async with httpx.AsyncClient() as http:
        published = (await http.get(pair.desk.base_url.removesuffix("/v1") + "/.well-known/jwks.json")).json()
    assert published["gateway_id"] == "desk"
    assert [key["x"] for key in published["keys"]] == [pair.key.public_key]


async def test_a_secret_that_only_two_gateways_know_does_as_well_as_a_key(pair: Pair, tmp_path: Path) -> None:
    environ = scripted_environ(pair.llm.base_url, OH_PERSISTENCE_DIR=str(tmp_path / "openhands"), SHARED=SECRET)
    box = PeerSettings(id="box", base_url=pair.box.base_url, shared_secret_env="SHARED")
    with gateway_in_thread(tmp_path, environ, gateway_id="third", peers=[box], shell_pool_size=0) as third:
        text, usage = await ask(third, "box/openhands_other", user("Go.", Step(content="by secret", usage=CENT)))
    assert (text, usage["cost"]) == ("by secret", 0.01)
    forged = encode_grant(
        grant_of_desk(pair, issuer="third"), audience="box", signer=Signer("HS256", "f" * 32), now=SystemClock().now()
    )
    assert await refusal(pair.box, forged) == (401, "invalid_api_key")


async def test_no_credential_of_the_caller_reaches_the_peer(pair: Pair) -> None:
    await stolen(pair)
    assert pair.desk.key not in json.dumps(pair.thief.headers)
