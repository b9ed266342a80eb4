"""A gateway that is killed in the middle of a chain: what its caller receives and pays, and what is known once it is back."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI

from a2a_gateway.testing.script import Gate, ScriptedCall, Step, Usage
from delegate_tool.protocol.money import parse_usd
from tests.crash.books import LIVE
from tests.crash.chain import AT_B, AT_C, Chain, running_chain
from tests.crash.load import cost_of, seeded_chance
from tests.support.ask import call, delegation, user

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CLIENTS = 30


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with running_chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


async def test_a_chain_whose_middle_is_killed_costs_what_all_of_it_has_used(chain: Chain) -> None:
    # B's first call is answered and charged; then it waits for C, whose first call is charged and whose second hangs.
    at_c = (
        Step(tool_calls=(call("delegate", agent="missing", task="x"),), usage=Usage(5_000, 0)),
        Step(content="never", gate=Gate("power-cut")),
    )
    at_b = Step(tool_calls=(delegation(AT_C, "Below.", *at_c),), usage=Usage(3_000, 0))
    llm = chain.llm
    async with chain.a.client() as client, chain.a.http() as http:
        asking = asyncio.create_task(
            client.chat.completions.create(model=AT_B, messages=[user("Go.", at_b)], extra_headers={"X-A2A-Budget-USD": "1"})
        )
        await llm.wait_until(lambda traffic: traffic.waiting_at("power-cut") == 1)
        await asyncio.to_thread(chain.b.end)
        with pytest.raises(APIStatusError) as lost:
            await asking
        await llm.wait_until(lambda traffic: traffic.waiting_at("power-cut") == 0)
        run_id = lost.value.response.headers["x-a2a-run-id"]
        before = (await http.get(f"/v1/runs/{run_id}")).json()
        await asyncio.to_thread(chain.b.start)
        after = await chain.get_final_run(http, run_id)
        tree = (await http.get(f"/v1/runs/{run_id}/tree")).json()

    assert (lost.value.status_code, lost.value.code) == (503, "peer_unavailable")
    assert lost.value.response.headers["x-should-retry"] == "false"
    assert before["cost"] == {
        "self": "0.000000",
        "tree": "0.000000",
        "reserved": "0.000000",
        "currency": "USD",
        "complete": False,
        "pending": True,
    }
    at_b_run, at_c_run = tree, tree["children"][0]
    assert (at_b_run["gateway"], at_b_run["cost"]["self"]) == ("b", "0.003000")
    assert (at_c_run["gateway"], at_c_run["agent"], at_c_run["state"]) == ("c", AT_C, "lost")
    (there,) = chain.books()[2].runs
    assert (there["state"], there["reserved_micro_usd"]) == ("cancelled", 0)
    assert there["cost_tree_micro_usd"] >= 5_000
    assert parse_usd(at_c_run["cost"]["tree"]) == there["cost_tree_micro_usd"]
    assert parse_usd(after["cost"]["tree"]) == 3_000 + there["cost_tree_micro_usd"]


@pytest.mark.timeout(120)
async def test_after_a_storm_that_the_middle_did_not_survive_three_ledgers_agree(chain: Chain) -> None:
    chance = seeded_chance()
    async with chain.a.client() as client, chain.a.http() as http:
        asking = [asyncio.create_task(ask(client, chance, number)) for number in range(CLIENTS)]
        calls = chance.randint(1, 2 * CLIENTS)
        await chain.llm.wait_until(lambda traffic: traffic.received >= calls)
        await asyncio.to_thread(chain.b.end)
        await asyncio.gather(*asking)
        await chain.llm.wait_until(lambda traffic: traffic.in_flight == 0)
        await asyncio.to_thread(chain.b.start)
        for run in chain.books()[0].runs:
            told = await chain.get_final_run(http, run["id"])
            assert told["state"] not in LIVE
    books = a, b, c = chain.books()

    assert [book.disagreements() + list(book.open_holds()) for book in books] == [[], [], []]
    assert a.spent().total() == b.spent().total() > 0
    assert sum(run["cost_tree_micro_usd"] for run in b.runs if run["parent_id"] is not None) == c.spent().total()
    # The LLM is the only one without a ledger: no call that it has answered may be missing.
    answered = [
        request for request in chain.llm.traffic.requests if request.number not in chain.llm.traffic.disconnected_requests
    ]
    assert a.spent().total() >= sum(cost_of(request) for request in answered)


async def ask(client: AsyncOpenAI, chance: random.Random, number: int) -> None:
    """Ask for a run of B that asks for one or two of C; every third client hangs up at random."""

    def step(*calls: ScriptedCall) -> Step:
        usage = Usage(chance.randint(50, 900), chance.randint(1, 40))
        return Step("word " * 20, tool_calls=calls, usage=usage, token_ms=chance.choice((0, 2, 5)))

    below = [delegation(AT_C, f"Below {number}.{each}.", step()) for each in range(chance.randint(1, 2))]
    request: dict[str, Any] = {
        "model": AT_B,
        "messages": [user(f"Task {number}.", step(*below), step())],
        "extra_headers": {"X-A2A-Budget-USD": "1"},
    }
    patience_s = chance.uniform(0, 0.5) if number % 3 == 0 else None
    with suppress(APIError, TimeoutError):
        async with asyncio.timeout(patience_s):
            if number % 2 == 0:
                await client.chat.completions.create(**request)
            else:
                async for _ in await client.chat.completions.create(stream=True, **request):
                    pass
