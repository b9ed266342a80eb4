"""The tool in a real SDK conversation, against a real HTTP server that plays both the agent's LLM and the agents it calls."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from openai import AsyncOpenAI
from openhands.sdk.conversation.state import ConversationExecutionStatus
from openhands.sdk.event import ActionEvent, AgentErrorEvent
from openhands.sdk.tool import Action, list_registered_tools

from delegate_tool import BoundClient, DelegationBinding, register
from delegate_tool.definition import WithheldDelegationTool
from delegate_tool.protocol.context import AgentCard
from delegate_tool.remaining import Allowance
from tests.delegate_tool import remote_endpoint as fakes
from tests.delegate_tool.delegator import CODER, Hire, call
from tests.delegate_tool.remote_endpoint import Answer, Hang, Refusal, RemoteEndpoint, calls, says
from tests.error_texts.texts import pattern_of

pytestmark = pytest.mark.anyio

TOKEN = "run-token-that-must-stay-secret"
REVIEWER = "openhands_reviewer"
CARDS = (AgentCard(CODER, "Writes code."), AgentCard(REVIEWER, "Reviews\n  code."))
USAGE = {
    "prompt_tokens": 50,
    "completion_tokens": 5,
    "total_tokens": 55,
    "cost": 0.25,
    "cost_details": {"self": "0.200000", "descendants": "0.050000", "complete": True},
    "delegation": {"run_id": "child", "runs": 2, "stop_reason": "finished", "tree_tokens": {"prompt": 70, "completion": 7}},
}


def bind(endpoint: RemoteEndpoint, client: AsyncOpenAI, **changes: Any) -> BoundClient:
    """Bind a run as a gateway does."""
    left: dict[str, Any] = {"depth_left": 2, "runs_left": 9, "budget_left_micro_usd": 1_000_000} | changes
    binding = DelegationBinding(endpoint.base_url, TOKEN, "run-7", "openhands_lead", CARDS, **left)
    return BoundClient.for_run(binding, client, asyncio.get_running_loop())


@pytest.fixture
async def shared() -> AsyncIterator[AsyncOpenAI]:
    """The client that a gateway shares between its runs."""
    async with AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="shared-client-has-no-key-of-its-own") as client:
        yield client


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_an_agent_reads_the_answer_the_facts_and_what_is_left(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI
) -> None:
    conversation_id = str(uuid4())
    endpoint.plays(CODER, Answer(["def f(): ", "pass"], USAGE, {"X-OpenHands-ServerConversation-ID": conversation_id}))
    endpoint.llm_says(calls(call(CODER, budget_usd=0.3, timeout_s=60)), says("done"))
    (observation,) = await hire().run(bind(endpoint, shared))
    assert observation.model_dump(exclude={"seconds", "kind", "content"}) == {
        "is_error": False,
        "status": "finished",
        "agent": CODER,
        "message": None,
        "error_code": None,
        "run_id": "child",
        "conversation_id": conversation_id,
        "cost_usd": "0.250000",
        "cost_complete": True,
        "budget_enforced": True,
        "turns": None,
        "depth_left": 2,
        "runs_left": 7,
        "budget_left_usd": "0.750000",
        "time_left_s": None,
        "left": "2 levels of depth, 7 runs, at most $0.750000",
    }
    assert observation.answer == "def f(): pass"
    told = json.dumps(endpoint.requests_to(fakes.LLM)[-1].body["messages"][-1])
    for fact in ("def f(): pass", "$0.250000", "7 runs", conversation_id):
        assert fact in told
    sent = endpoint.requests_to(CODER)[0].headers
    assert (sent["x-a2a-budget-usd"], sent["x-a2a-timeout"], sent["authorization"]) == ("0.300000", "60", f"Bearer {TOKEN}")


async def test_a_wrong_url_of_ones_own_gateway_is_logged(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plays(CODER, Refusal(401, {"message": "Signature verification failed.", "code": "invalid_api_key"}))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    await hire().run(bind(endpoint, shared))
    (warned,) = [record.getMessage() for record in caplog.records if record.name == "delegate_tool.executor"]
    assert "run-7" in warned
    assert "public_url" in warned


async def test_the_description_lists_agents_and_what_is_left(endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI) -> None:
    endpoint.llm_says(says("done"))
    await hire().run(bind(endpoint, shared, runs_left=1))
    (tool,) = [tool["function"] for tool in endpoint.received[0].body["tools"] if tool["function"]["name"] == "delegate"]
    lines = tool["description"].splitlines()
    assert "- openhands_coder: Writes code." in lines
    assert "- openhands_reviewer: Reviews code." in lines
    assert any(line.startswith("- self: openhands_lead") for line in lines)
    assert lines[-1] == "Left at the start of this run: 2 levels of depth, 1 run, at most $1.000000."
    asked = {"agent", "task", "context", "conversation_id", "budget_usd", "timeout_s"}
    assert asked <= set(tool["parameters"]["properties"])
    assert set(tool["parameters"]["required"]) >= {"agent", "task"}


async def test_the_time_of_a_run_is_counted_from_when_it_was_bound(endpoint: RemoteEndpoint, shared: AsyncOpenAI) -> None:
    bound = bind(endpoint, shared, timeout_s=60.0)
    assert bound.deadline_at is not None
    at_once, later, too_late = (Allowance(bound.binding, bound.deadline_at - passed_s).remaining() for passed_s in (0, 20, 90))
    assert at_once.seconds is not None
    assert later.seconds is not None
    assert 0 <= later.seconds <= at_once.seconds - 20 <= 40
    assert too_late.seconds == 0


@pytest.mark.parametrize("depth_left", [0, None])
async def test_a_run_that_may_not_delegate_has_no_tool(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI, depth_left: int | None
) -> None:
    endpoint.llm_says(says("done"))
    delegator = hire()
    bound = None if depth_left is None else bind(endpoint, shared, depth_left=depth_left)
    await anyio.to_thread.run_sync(lambda: delegator.start(bound, in_gateway=True))
    await delegator.arun()
    assert "delegate" not in delegator.conversation.agent.tools_map
    assert all(tool["function"]["name"] != "delegate" for tool in endpoint.received[0].body["tools"])


async def test_the_hidden_tool_of_a_run_that_may_not_delegate_refuses(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI
) -> None:
    endpoint.llm_says(calls(call(CODER)), says("done"))
    delegator = hire(withholdable=True)
    (observation,) = await delegator.run(bind(endpoint, shared, depth=1, depth_left=0))
    assert isinstance(delegator.conversation.agent.tools_map["delegate"], WithheldDelegationTool)
    assert (observation.status, observation.error_code) == ("refused", "delegation_depth_exceeded")
    assert observation.message == (
        "The run would be at depth 2; the greatest depth allowed here is 1. "
        "Do this part yourself: nothing at this depth may delegate."
    )
    assert endpoint.requests_to(CODER) == []


async def test_calls_of_one_turn_run_at_the_same_time(endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI) -> None:
    together = asyncio.Barrier(3)
    endpoint.plays(CODER, Answer(meet=together))
    endpoint.llm_says(calls(*(call(CODER, f"call_{n}", f"part {n}") for n in range(3))), says("done"))
    with anyio.fail_after(30):
        observations = await hire().run(bind(endpoint, shared))
    assert [observation.status for observation in observations] == ["finished"] * 3


@pytest.mark.parametrize("hang", [Hang(), Hang(["thinking"])], ids=["before the headers", "in mid-stream"])
@pytest.mark.parametrize("children", [1, 3])
@pytest.mark.parametrize("in_gateway", [True, False])
async def test_interrupting_the_agent_hangs_up_on_every_child(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI, hang: Hang, children: int, in_gateway: bool
) -> None:
    endpoint.plays(CODER, hang)
    endpoint.llm_says(calls(*(call(CODER, f"call_{n}", f"part {n}") for n in range(children))), says("never sent"))
    delegator = hire(agents=[CODER])
    await anyio.to_thread.run_sync(delegator.start, bind(endpoint, shared) if in_gateway else None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delegator.arun)
        await anyio.to_thread.run_sync(endpoint.wait_for, lambda seen: len(seen.requests_to(CODER)) == children)
        with anyio.fail_after(30):
            delegator.conversation.interrupt()
            await anyio.to_thread.run_sync(endpoint.wait_for, lambda seen: seen.disconnects == children)
    assert delegator.conversation.state.execution_status is ConversationExecutionStatus.PAUSED
    assert len(endpoint.requests_to(fakes.LLM)) == 1
    assert len([event for event in delegator.events if isinstance(event, AgentErrorEvent)]) == children


async def test_what_children_cost_is_part_of_the_parents_metrics(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI
) -> None:
    endpoint.plays(CODER, Answer(usage=USAGE))
    endpoint.plays(REVIEWER, Answer(usage=USAGE | {"delegation": {"run_id": "other child"}}))
    endpoint.llm_says(calls(call(CODER), call(REVIEWER, "call_1")), says("done"))
    delegator = hire()
    await delegator.run(bind(endpoint, shared))
    metrics = delegator.conversation.conversation_stats.get_combined_metrics()
    own = 2 * (100 * 0.001 + 10 * 0.01)
    assert metrics.accumulated_cost == pytest.approx(own + 2 * 0.25)
    assert metrics.accumulated_token_usage is not None
    assert metrics.accumulated_token_usage.prompt_tokens == 2 * 100 + 70 + 50
    assert metrics.accumulated_token_usage.completion_tokens == 2 * 10 + 7 + 5
    assert {"delegate:child", "delegate:other child"} <= set(delegator.conversation.conversation_stats.usage_to_metrics)


async def test_each_call_has_an_idempotency_key_made_of_ids_alone(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI
) -> None:
    endpoint.plays(CODER, Answer())
    same = call(CODER, "call_0", "the same words")
    endpoint.llm_says(calls(same, call(CODER, "call_1", "the same words")), calls(same), says("done"))
    delegator = hire()
    await delegator.run(bind(endpoint, shared))
    asked = [event for event in delegator.events if isinstance(event, ActionEvent) and event.tool_name == "delegate"]
    sent = {received.headers["idempotency-key"] for received in endpoint.requests_to(CODER)}
    assert sent == {f"run-7:{event.id}" for event in asked}
    assert len(sent) == 3


async def test_the_runs_token_is_in_no_prompt_and_in_no_file(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI, tmp_path: Path
) -> None:
    refusal = Refusal(401, {"message": "This run has ended.", "code": "run_token_revoked"})
    endpoint.plays(CODER, Answer(usage=USAGE), refusal)
    endpoint.llm_says(calls(call(CODER)), calls(call(CODER)), says("done"))
    delegator = hire()
    bound = bind(endpoint, shared)
    await delegator.run(bound)
    delegator.close()
    assert endpoint.requests_to(CODER)[0].headers["authorization"] == f"Bearer {TOKEN}"
    written = contents(tmp_path)
    assert any(b"openhands_coder" in content for content in written.values())
    assert [path for path, content in written.items() if TOKEN.encode() in content] == []
    prompts = endpoint.requests_to(fakes.LLM)
    assert [prompt for prompt in prompts if TOKEN in json.dumps(prompt.body) or TOKEN in str(prompt.headers)] == []
    assert TOKEN not in delegator.conversation.agent.model_dump_json() + repr(bound)
    assert TOKEN not in os.environ.values()


@pytest.mark.parametrize(
    ("arguments", "code", "pattern"),
    [
        ({"agent": "plumber"}, "agent_not_listed", CODER),
        ({"agent": "openhands_nobody"}, "agent_not_listed", CODER),
        ({"agent": CODER, "task": "  "}, "invalid_request_error", pattern_of("invalid_request_error: the tool's task is empty")),
        (
            {"agent": CODER, "budget_usd": "0.00"},
            "invalid_request_error",
            pattern_of("invalid_request_error: the tool's budget is 0"),
        ),
        (
            {"agent": CODER, "budget_usd": "a lot"},
            "invalid_request_error",
            pattern_of("invalid_request_error: the tool's budget is 0"),
        ),
        (
            {"agent": CODER, "budget_usd": "1 dollar"},
            "invalid_request_error",
            pattern_of("invalid_request_error: the tool's budget is no amount"),
        ),
        ({"agent": CODER, "timeout_s": 0}, "invalid_request_error", pattern_of("invalid_request_error: the tool's time is 0")),
        (
            {"agent": CODER, "conversation_id": "the first one"},
            "invalid_request_error",
            pattern_of("invalid_request_error: the tool's conversation is no id"),
        ),
    ],
)
async def test_what_cannot_work_is_refused_without_a_request(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI, arguments: dict[str, Any], code: str, pattern: str
) -> None:
    endpoint.plays(CODER, Answer())
    endpoint.llm_says(calls(call(**arguments)), says("done"))
    (observation,) = await hire().run(bind(endpoint, shared))
    assert (observation.status, observation.error_code, observation.is_error) == ("refused", code, True)
    assert re.search(pattern, observation.message or "")
    assert observation.runs_left == 9
    assert endpoint.requests_to(CODER) == []


async def test_a_refusal_of_the_gateway_reaches_the_agent_with_its_remedy(
    endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI
) -> None:
    details = {"depth": 3, "max_depth": 2}
    endpoint.plays(CODER, Refusal(403, {"message": "Too deep.", "code": "delegation_depth_exceeded", "details": details}))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    (observation,) = await hire().run(bind(endpoint, shared))
    assert (observation.status, observation.error_code) == ("refused", "delegation_depth_exceeded")
    assert "Too deep. (depth 3, max_depth 2) Do this part yourself" in json.dumps(endpoint.received[-1].body)


async def test_a_tool_that_breaks_lets_the_agent_go_on(endpoint: RemoteEndpoint, hire: Hire, shared: AsyncOpenAI) -> None:
    endpoint.llm_says(calls(call(CODER)), says("done"))
    bound = bind(endpoint, shared)
    ended = asyncio.new_event_loop()
    ended.close()
    (observation,) = await hire().run(BoundClient(bound.binding, bound.client, ended))
    assert (observation.status, observation.error_code) == ("failed", "internal_error")
    assert endpoint.requests_to(fakes.LLM)[-1].body["messages"][-1]["role"] == "tool"


def test_the_tools_names_clash_with_none_of_the_sdks_own_tools(hire: Hire) -> None:
    import openhands.tools.delegate
    import openhands.tools.preset.default

    assert register() == register() == "delegate"
    assert list_registered_tools().count("delegate") == 1
    delegation = {"kind": "DelegationAction", "agent": CODER, "task": "t"}
    assert Action.model_validate_json(json.dumps(delegation)).model_dump()["agent"] == CODER
    built_in = openhands.tools.delegate.DelegateAction(command="spawn")
    assert Action.model_validate_json(built_in.model_dump_json()) == built_in
