"""The ledger: requests that are carried out once, by idempotency key or by grant, and the answers kept for them."""

import asyncio

import pytest

from a2a_gateway.errors import GatewayError
from a2a_gateway.runs.model import Grant, IdempotencyKey, RunId, RunState, TokenUsage
from delegate_tool.protocol.limits import LimitPolicy
from tests.error_texts.texts import pattern_of
from tests.stores.ledger_bench import NOW, Bench

pytestmark = pytest.mark.anyio


def claim(fingerprint: str = "f", expires_at: float = NOW + 100) -> IdempotencyKey:
    return IdempotencyKey("key:k", "mine", fingerprint, expires_at)


async def test_an_idempotency_key_stands_for_the_run_that_it_opened(bench: Bench) -> None:
    first = await bench.propose("one", idempotency_key=claim())
    assert await bench.propose("two", idempotency_key=claim()) == first
    with pytest.raises(GatewayError) as reused:
        await bench.propose("three", idempotency_key=claim("another request"))
    assert reused.value.code == "idempotency_key_reused"
    bench.clock.at += 101
    await bench.store.ledger.forget_expired(bench.clock.now())
    assert await bench.propose("too-early", idempotency_key=claim()) == first  # it may still end, and is not to be begun twice
    await bench.store.ledger.close_run(first.id, RunState.FAILED, stop_reason="failed")
    assert (await bench.propose("four", idempotency_key=claim(expires_at=NOW + 200))).id == "four"
    await bench.store.ledger.close_run(RunId("four"), RunState.FAILED, stop_reason="failed")
    bench.clock.at += 200
    await bench.store.ledger.forget_expired(bench.clock.now())
    assert (await bench.propose("five", idempotency_key=claim("another request"))).id == "five"


async def test_two_requests_with_one_idempotency_key_at_once_open_one_run(bench: Bench) -> None:
    opened = await asyncio.gather(*(bench.propose(f"run-{number}", idempotency_key=claim()) for number in range(8)))
    assert len({run.id for run in opened}) == 1
    assert len(await bench.store.ledger.recent_runs(None, 10)) == 1


async def test_a_refused_request_leaves_its_idempotency_key_free(bench: Bench) -> None:
    await bench.running("root", max_depth=0)
    with pytest.raises(GatewayError):
        await bench.propose("child", parent_id=RunId("root"), idempotency_key=claim())
    assert (await bench.propose("other", idempotency_key=claim("another request"))).id == "other"


@pytest.mark.parametrize(
    ("code", "usage", "again"),
    [
        ("llm_rate_limited", TokenUsage(), "two"),
        ("peer_unavailable", TokenUsage(), "two"),
        ("llm_rate_limited", TokenUsage(1, 0), "one"),
        ("llm_bad_request", TokenUsage(), "one"),
    ],
)
async def test_a_run_that_came_to_nothing_for_the_moment_leaves_its_idempotency_key_free(
    bench: Bench, code: str, usage: TokenUsage, again: str
) -> None:
    await bench.propose("one", idempotency_key=claim(), starts=True)
    await bench.turn("one", usage, 0)
    await bench.store.ledger.close_run(RunId("one"), RunState.FAILED, stop_reason=code, error_code=code, answer="kept")
    assert (await bench.propose("two", idempotency_key=claim())).id == again


async def test_a_grant_opens_one_run(bench: Bench) -> None:
    grant = Grant("box-a", "far-parent", "far-tree", "jti-1", NOW + 100, "openhands_lead", 2, LimitPolicy())
    opened = await bench.propose("one", grant=grant, stated_depth=2)
    assert (opened.depth, opened.parent_id, opened.origin) == (2, None, "box-a/far-parent")
    assert await bench.store.ledger.run_of_origin(bench.key.id, "box-a/far-parent") == opened
    with pytest.raises(GatewayError, match=pattern_of("invalid_api_key: a grant is used twice")) as replayed:
        await bench.propose("two", grant=grant, stated_depth=2)
    assert replayed.value.code == "invalid_api_key"
    assert await bench.store.ledger.get_run(RunId("two")) is None


async def test_an_answer_is_kept_for_a_day(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root")
    await ledger.close_run(RunId("root"), RunState.FINISHED, stop_reason="finished", answer="It is \ud800 42.")
    await ledger.close_run(RunId("root"), RunState.FINISHED, stop_reason="finished", answer="too late")
    assert await ledger.answer_of(RunId("root")) == "It is \ud800 42."
    await ledger.forget_expired(NOW + 86_400)
    assert await ledger.answer_of(RunId("root")) is None
