"""Delegation over the protocol: depth, breadth, cycles, cost, parentage. Real agents call each other through the real gateway."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError

from a2a_gateway.runs.model import RunState
from a2a_gateway.testing.script import ChatRequest, Gate, Step, Usage, text_of
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import call, delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_gateway

pytestmark = pytest.mark.anyio
PRICED = "openhands_priced"
TEN_CENTS = Usage(100_000, 0)
"""At the profiles' price of 1 USD per million input tokens."""


async def ask(gateway: GatewayUnderTest, model: str, *messages: Any, **options: Any) -> tuple[str, dict[str, Any]]:
    async with gateway.client() as client:
        completion = await client.chat.completions.create(model=model, messages=list(messages), **options)
    assert completion.usage is not None
    return completion.choices[0].message.content or "", completion.usage.model_dump()


async def tree_of(gateway: GatewayUnderTest, run_id: str) -> dict[str, Any]:
    async with gateway.http() as http:
        tree: dict[str, Any] = (await http.get(f"/v1/runs/{run_id}/tree")).raise_for_status().json()
    return tree


def task_of(request: ChatRequest) -> str:
    return next(text_of(message) for message in request.messages if message["role"] == "user")


def flat(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [tree, *(run for child in tree["children"] for run in flat(child))]


async def test_a_child_answers_its_parent_and_its_cost_rolls_up(gateway: GatewayUnderTest) -> None:
    child = delegation("openhands_priced", "Write seven.", Step(content="Seven.", usage=TEN_CENTS))
    steps = (Step(tool_calls=(child,), usage=TEN_CENTS), Step(content="Result: $LAST", usage=TEN_CENTS))
    text, usage = await ask(gateway, PRICED, user("Ask an agent.", *steps))
    assert "Seven." in text
    assert usage["cost_details"]["self"] == "0.200000"
    assert usage["cost_details"]["descendants"] == "0.100000"
    assert usage["cost"] == 0.3
    assert usage["cost_details"]["by_agent"] == [{"model": PRICED, "gateway": "local", "runs": 1, "cost": "0.100000"}]
    assert (usage["delegation"]["runs"], usage["delegation"]["tree_tokens"]["prompt"]) == (2, 300_000)
    runs = flat(await tree_of(gateway, usage["delegation"]["run_id"]))
    assert [(run["depth"], run["agent"], run["state"]) for run in runs] == [(0, PRICED, "finished"), (1, PRICED, "finished")]
    assert sum(float(run["cost"]["self"]) for run in runs) == pytest.approx(usage["cost"])


async def test_an_agent_is_told_what_is_left_at_the_start_and_after_each_delegation(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    """5 % of 1 USD are kept back for its last call; its own calls count, too, and so do runs below a child."""
    grandchild = delegation("self", "Deeper.", Step(content="deep", usage=TEN_CENTS))
    child = delegation("self", "Deep.", Step(tool_calls=(grandchild,), usage=TEN_CENTS), Step(content="ok", usage=Usage(0, 1)))
    refused = delegation("openhands_nobody", "left-test again", Step(content="never"))
    steps = (Step(tool_calls=(child,), usage=TEN_CENTS), Step(tool_calls=(refused,), usage=TEN_CENTS), Step(content="done"))
    limits = {"X-A2A-Budget-USD": "1", "X-A2A-Max-Depth": "5", "X-A2A-Max-Runs": "9"}
    await ask(gateway, PRICED, user("left-test", *steps), extra_headers=limits)
    first, second, third = [request for request in llm.traffic.requests if task_of(request).startswith("left-test ")]
    [tool] = [tool["function"] for tool in first.body["tools"] if tool["function"]["name"] == "delegate"]
    assert "Left at the start of this run: 5 levels of depth, 9 runs, at most $0.950000, " in tool["description"]
    assert "Left for delegations: 5 levels of depth, 7 runs, at most $0.649998, " in second.last_text
    assert "refused" in third.last_text
    assert first.body["tools"] == second.body["tools"]  # what is left stands in no place that a provider's cache begins with


async def test_parallel_children_overlap(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    gate = Gate("all three", opens_at=3)  # opens only once all three children are being answered at the same time
    children = tuple(delegation(PRICED, f"Part {n}.", Step(content=f"part {n}", gate=gate)) for n in range(3))
    text, usage = await ask(gateway, PRICED, user("Split it.", Step(tool_calls=children), Step(content="joined")))
    assert (text, usage["delegation"]["runs"]) == ("joined", 4)


async def test_self_is_the_callers_own_profile(gateway: GatewayUnderTest) -> None:
    steps = (Step(tool_calls=(delegation("self", "Think again.", Step(content="thought")),)), Step(content="done"))
    _, usage = await ask(gateway, PRICED, user("Think.", *steps))
    runs = flat(await tree_of(gateway, usage["delegation"]["run_id"]))
    assert [run["agent"] for run in runs] == [PRICED, PRICED]


async def test_at_the_last_depth_the_tool_is_not_offered_and_a_forced_call_is_refused(
    gateway: GatewayUnderTest, llm: ScriptedLLM
) -> None:
    deeper = delegation("self", "Deeper still.", Step(content="never"))
    forced = delegation("self", "last-depth-test", Step(tool_calls=(deeper,)), Step(content="I was refused."))
    text, usage = await ask(
        gateway,
        PRICED,
        user("Go deep.", Step(tool_calls=(forced,)), Step(content="$LAST")),
        extra_headers={"X-A2A-Max-Depth": "1"},
    )
    assert "I was refused." in text
    assert usage["delegation"]["runs"] == 2
    root, *_ = [request for request in llm.traffic.requests if "Go deep." in request.last_text]
    child, told = [request for request in llm.traffic.requests if text_of(request.messages[1]).startswith("last-depth-test")]
    assert "delegate" in root.tools
    assert "delegate" not in child.tools
    assert "depth 2" in told.last_text


async def test_a_run_token_makes_children_and_no_header_can_widen_anything(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    # Plays an agent that uses its own token by hand, forged headers and all.
    step = Step(content="done", gate="token-test")
    async with gateway.client() as client:
        running = asyncio.create_task(
            client.chat.completions.create(
                model=PRICED,
                messages=[user("token-test", step)],
                extra_headers={"X-A2A-Max-Depth": "1", "X-A2A-Budget-USD": "0.5"},
            )
        )
        await llm.wait_until(lambda traffic: traffic.waiting_at("token-test") == 1)
        service = gateway.running.gateway.started.result().service
        live = next(live for live in service.live_runs if live.record.limits.budget_micro_usd == 500_000)
        token = service.tokens.mint(live.record)
        forged = {"X-A2A-Max-Depth": "9", "X-A2A-Depth": "0", "X-A2A-Budget-USD": "100", "X-A2A-Timeout": "999999"}
        async with gateway.client(key=token) as child_client:
            raw = await child_client.chat.completions.with_raw_response.create(
                model=PRICED, messages=[user("child", Step(content="hi"))], extra_headers=forged
            )
            with pytest.raises(APIStatusError) as hidden:
                await child_client.get("/runs/00000000-0000-0000-0000-000000000000", cast_to=object)
        llm.open_gate("token-test")
        await running
        async with gateway.client(key=token) as dead_client:
            with pytest.raises(APIStatusError) as revoked:
                await dead_client.chat.completions.create(model=PRICED, messages=[user("late", Step(content="no"))])
    assert (raw.headers["x-a2a-depth"], raw.headers["x-a2a-max-depth"], raw.headers["x-a2a-tree-id"]) == (
        "1",
        "1",
        live.record.id,
    )
    assert float(raw.headers["x-a2a-timeout"]) < live.record.limits.timeout_s
    usage = raw.parse().usage
    assert usage is not None
    assert usage.model_dump()["delegation"]["budget"] == "0.475000"  # the parent's, less what pays for its last call
    assert (hidden.value.status_code, hidden.value.code) == (404, "run_not_found")
    assert (revoked.value.status_code, revoked.value.code) == (401, "run_token_revoked")


async def test_the_same_task_for_the_same_agent_on_the_way_down_is_a_cycle(gateway: GatewayUnderTest) -> None:
    pass_on = call("delegate", agent="self", task="$LAST")  # in the first turn, the last text is the task itself
    text, usage = await ask(gateway, PRICED, user("Do it.", Step(tool_calls=(pass_on,)), Step(content="answered: $LAST")))
    assert "refused" in text
    assert usage["delegation"]["runs"] == 1


async def test_an_agent_calls_only_whom_its_profile_allows(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    steps = (Step(tool_calls=(delegation(PRICED, "allowed-test.", Step(content="never")),)), Step(content="answered: $LAST"))
    text, usage = await ask(gateway, "openhands_shy", user("Ask another agent.", *steps))
    assert "refused" in text
    assert "never" not in text
    assert usage["delegation"]["runs"] == 1


async def test_a_spent_budget_stops_the_tree_before_its_next_llm_call(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    before = llm.traffic.received
    steps = (
        Step(content="Spending.", tool_calls=(call("terminal", command="true"),), usage=Usage(48_000, 0)),
        Step(content="never"),
    )
    async with gateway.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="openhands_poor", messages=[user("Spend.", *steps)])
    completion = raw.parse()
    assert completion.choices[0].finish_reason == "length"
    assert completion.choices[0].message.content == "Spending."
    assert raw.headers["x-a2a-stop-reason"] == "budget_exceeded"
    assert raw.headers["x-a2a-cost-usd"] == "0.048000"
    assert llm.traffic.received - before == 1


async def test_a_budget_used_up_with_nothing_to_show_is_a_402(gateway: GatewayUnderTest) -> None:
    steps = (Step(tool_calls=(call("terminal", command="true"),), usage=Usage(48_000, 0)), Step(content="never"))
    async with gateway.client() as client:
        with pytest.raises(APIStatusError) as refused:
            await client.chat.completions.create(model="openhands_poor", messages=[user("Spend.", *steps)])
    assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.response.headers["x-a2a-cost-usd"] == "0.048000"


async def test_an_agent_is_warned_then_has_one_last_turn_to_wrap_up(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    work = call("terminal", command="true")
    steps = (
        Step(content="One.", tool_calls=(work,), usage=Usage(850_000, 0)),
        Step(content="Two.", tool_calls=(work,), usage=Usage(90_000, 0)),
        Step(content="This is what I have.", usage=Usage(20_000, 100)),
    )
    async with gateway.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=PRICED, messages=[user("wrap-up-test", *steps)], extra_headers={"X-A2A-Budget-USD": "1"}
        )
    completion = raw.parse()
    assert completion.choices[0].message.content == "One.\n\nTwo.\n\nThis is what I have."
    assert completion.choices[0].finish_reason == "length"
    assert (raw.headers["x-a2a-stop-reason"], raw.headers["x-a2a-cost-usd"]) == ("budget_exceeded", "0.960200")
    assert raw.headers["x-a2a-budget-remaining-usd"] == "0.039800"
    first, second, last = [request for request in llm.traffic.requests if task_of(request).startswith("wrap-up-test")]
    assert "[Budget]" not in first.last_text
    assert "[Budget] 85 % of the budget of 1.000000 USD is used; 0.150000 USD are left." in second.last_text
    assert "[Budget] The budget of 1.000000 USD is used up. This is your last turn" in last.last_text
    assert [request.body.get("tool_choice") for request in (first, second, last)] == [None, None, "none"]
    assert "terminal" in last.tools
    # 50,000 micro-USD are kept back and 10,000 left; a prompt of these costs a few thousand, and an output token 2.
    assert first.body["max_completion_tokens"] == 16_384
    assert 64 <= last.body["max_completion_tokens"] <= 30_000


async def test_an_agent_that_calls_tools_in_its_last_turn_is_stopped_before_they_run(
    gateway: GatewayUnderTest, llm: ScriptedLLM, tmp_path: Path
) -> None:
    forbidden = call("terminal", command=f"touch {tmp_path}/forbidden")
    steps = (
        Step(tool_calls=(call("terminal", command="true"),), usage=Usage(945_000, 0)),
        Step(content="One more thing.", tool_calls=(forbidden,), usage=Usage(1_000, 10)),
    )
    text, usage = await ask(gateway, PRICED, user("Go on.", *steps), extra_headers={"X-A2A-Budget-USD": "1"})
    assert (text, usage["delegation"]["stop_reason"]) == ("One more thing.", "budget_exceeded")
    assert not (tmp_path / "forbidden").exists()


async def test_a_budget_and_no_price_is_refused_before_any_llm_call(tmp_path: Path) -> None:
    hosted = "---\nname: hosted\nmodel: openai/one-of-my-own\na2a:\n  base_url: https://llm.test/v1\n---\n"
    with scripted_gateway(tmp_path, {"hosted": hosted}, unpriced_usd_per_mtok=None) as (gateway, llm):
        async with gateway.client() as client:
            with pytest.raises(APIStatusError) as refused:
                await client.chat.completions.create(model="openhands_hosted", messages=[user("Hi", Step(content="no"))])
    assert (refused.value.status_code, refused.value.code) == (400, "model_unpriced")
    assert llm.traffic.received == 0


async def test_children_in_parallel_never_spend_more_than_their_parent_may(gateway: GatewayUnderTest) -> None:
    """Five at once, each of whose calls may cost a quarter of the budget, and does cost all that was set aside for it."""
    burning = [call("delegate", agent="openhands_priced", task=f"burn {number}") for number in range(5)]
    steps = (Step(tool_calls=tuple(burning), usage=Usage(1_000, 0)), Step(content="done", usage=Usage(1_000, 1)))
    _, usage = await ask(gateway, PRICED, user("Spread out.", *steps), extra_headers={"X-A2A-Budget-USD": "0.15"})
    assert usage["delegation"]["runs"] == 6
    assert 0.1 < usage["cost"] <= 0.15


async def test_too_many_turns_end_with_what_was_said(gateway: GatewayUnderTest) -> None:
    steps = tuple(Step(content=f"Turn {n}.", tool_calls=(call("terminal", command=f"echo {n}"),)) for n in range(9))
    text, usage = await ask(gateway, PRICED, user("Work on.", *steps), extra_headers={"X-A2A-Max-Turns": "2"})
    assert text == "Turn 0.\n\nTurn 1."
    assert usage["delegation"]["stop_reason"] == "max_turns"


async def test_a_deadline_ends_a_run_and_says_so(gateway: GatewayUnderTest, llm: ScriptedLLM) -> None:
    async with gateway.client() as client:
        with pytest.raises(APIStatusError) as late:
            await client.chat.completions.create(
                model=PRICED, messages=[user("Sleep.", Step(hang=True))], extra_headers={"X-A2A-Timeout": "0.3"}
            )
    assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")
    await llm.wait_until(lambda traffic: traffic.in_flight == 0)


async def test_a_tree_has_only_so_many_runs(gateway: GatewayUnderTest) -> None:
    one = delegation("self", "First.", Step(content="first"))
    two = delegation("self", "Second.", Step(content="second"))
    steps = (Step(tool_calls=(one,)), Step(tool_calls=(two,)), Step(content="$LAST"))
    text, usage = await ask(gateway, PRICED, user("Two calls.", *steps), extra_headers={"X-A2A-Max-Runs": "1"})
    assert "refused" in text
    assert usage["delegation"]["runs"] == 2


async def test_more_children_than_the_breadth_take_turns(gateway: GatewayUnderTest) -> None:
    children = tuple(delegation("self", f"Child {n}.", Step(content=f"child {n}")) for n in range(4))
    steps = (Step(tool_calls=children), Step(content="all"))
    text, usage = await ask(gateway, PRICED, user("Four at once.", *steps), extra_headers={"X-A2A-Max-Breadth": "2"})
    assert (text, usage["delegation"]["runs"]) == ("all", 5)
    runs = flat(await tree_of(gateway, usage["delegation"]["run_id"]))
    assert {run["state"] for run in runs} == {RunState.FINISHED}


async def test_twenty_nested_delegations_do_not_starve_each_other(gateway: GatewayUnderTest) -> None:
    text, usage = await ask(gateway, PRICED, user("nest 20"))
    assert (text, usage["delegation"]["runs"]) == ("back at 20", 21)


async def test_a_gateway_recognises_its_own_request_in_a_circle(gateway: GatewayUnderTest) -> None:
    async with gateway.client() as client:
        with pytest.raises(APIStatusError) as circle:
            await client.chat.completions.create(
                model=PRICED, messages=[user("Hi", Step(content="no"))], extra_headers={"X-A2A-Via": "elsewhere, local"}
            )
    assert (circle.value.status_code, circle.value.code) == (508, "gateway_loop_detected")


async def test_a_trace_that_nobody_can_read_stops_no_delegation(gateway: GatewayUnderTest) -> None:
    child = delegation("self", "Write seven.", Step(content="Seven."))
    request = {"model": PRICED, "messages": [user("Ask.", Step(tool_calls=(child,)), Step(content="$LAST"))]}
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", json=request, headers={b"traceparent": b"\xe9"})
    assert "Seven." in answer.json()["choices"][0]["message"]["content"]
