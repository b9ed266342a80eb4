"""The tool in an agent outside a gateway, against a real HTTP server that plays its LLM and the endpoint."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.delegate_tool import remote_endpoint as fakes
from tests.delegate_tool.delegator import CODER, Hire, call
from tests.delegate_tool.remote_endpoint import Answer, Hang, RemoteEndpoint, calls, says

pytestmark = pytest.mark.anyio


async def test_outside_a_gateway_the_endpoint_is_asked_which_agents_it_has(endpoint: RemoteEndpoint, hire: Hire) -> None:
    endpoint.models = [{"id": CODER, "object": "model", "description": "Writes code."}, {"id": "plain", "object": "model"}]
    endpoint.plays("unlisted", Answer(["hi"]))
    endpoint.llm_says(calls(call("unlisted")), says("done"))
    (observation,) = await hire().run()
    description = json.dumps(endpoint.requests_to(fakes.LLM)[0].body["tools"])
    assert "- openhands_coder: Writes code." in description
    assert "- plain" in description
    assert (observation.answer, observation.cost_usd, observation.left) == ("hi", None, "")
    assert endpoint.requests_to("unlisted")[0].headers["authorization"] == "Bearer key"


async def test_outside_a_gateway_an_endpoint_without_a_list_works_too(endpoint: RemoteEndpoint, hire: Hire) -> None:
    endpoint.models = None
    endpoint.plays(CODER, Answer(["hi"]))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    (observation,) = await hire(budget_usd="0.10").run()
    assert (observation.answer, observation.budget_enforced) == ("hi", False)
    assert endpoint.requests_to(CODER)[0].headers["x-a2a-budget-usd"] == "0.100000"


async def test_a_misspelt_parameter_is_an_error_that_suggests_the_right_one(hire: Hire) -> None:
    with pytest.raises(TypeError, match="mean budget_usd"):
        await anyio.to_thread.run_sync(hire(budget="0.10").start)


@pytest.mark.parametrize("limits", [None, {}])
async def test_a_budget_at_an_endpoint_that_lists_no_limits_is_warned_of_before_a_call(
    endpoint: RemoteEndpoint,
    hire: Hire,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, Any] | None,
) -> None:
    monkeypatch.setattr("delegate_tool.definition._CATALOGUE_TIMEOUT_S", 60)  # however busy the machine is
    endpoint.models = [{"id": CODER, "object": "model", **({} if limits is None else {"limits": limits})}]
    await anyio.to_thread.run_sync(hire(budget_usd="0.10").start)
    assert [record.name for record in caplog.records if "ignores the budget" in record.message] == (
        ["delegate_tool.client"] if limits is None else []
    )


async def test_limits_of_the_tool_hold_for_every_child(endpoint: RemoteEndpoint, hire: Hire) -> None:
    endpoint.plays(CODER, Answer(["hi"]))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    await hire(agents=[CODER], max_depth=0, max_turns=5, max_runs=2, max_breadth=3, allowed_agents=[CODER]).run()
    sent = endpoint.requests_to(CODER)[0].headers
    names = ("max-depth", "max-turns", "max-runs", "max-breadth", "allowed-agents")
    assert [sent[f"x-a2a-{name}"] for name in names] == ["0", "5", "2", "3", CODER]


@pytest.mark.parametrize("page", ["<html>Hello</html>", "{", "[]", '{"data": null}', '{"data": [7]}', '{"data": [{"id": null}]}'])
async def test_outside_a_gateway_whatever_an_endpoint_says_instead_of_a_list_it_works(
    endpoint: RemoteEndpoint, hire: Hire, page: str
) -> None:
    endpoint.models = page
    endpoint.plays(CODER, Answer(["hi"]))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    (observation,) = await hire().run()
    assert observation.answer == "hi"


def test_a_synchronous_conversation_delegates_too(endpoint: RemoteEndpoint, hire: Hire) -> None:
    endpoint.plays(CODER, Answer(["hi"]))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    delegator = hire(agents={CODER: "Writes code."})
    delegator.start()
    delegator.run_here()
    assert [observation.answer for observation in delegator.observations] == ["hi"]


def test_a_missing_key_is_said_when_the_conversation_starts(hire: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A2A_API_KEY")
    with pytest.raises(ValueError, match="A2A_API_KEY"):
        hire().start()


def test_a_script_that_forgets_to_close_its_conversation_still_ends(endpoint: RemoteEndpoint, hire: Hire, tmp_path: Path) -> None:
    endpoint.plays(CODER, Answer(["hi"]))
    endpoint.llm_says(calls(call(CODER)), says("done"))
    program = (
        "import sys; from pathlib import Path; from tests.delegate_tool.delegator import Delegator, RemoteEndpoint;"
        "endpoint = RemoteEndpoint(); endpoint.base_url = sys.argv[1]; it = Delegator(endpoint, Path(sys.argv[2]));"
        "it.start(); it.run_here(); print(it.observations[0].answer)"
    )
    command = [sys.executable, "-c", program, endpoint.base_url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip().splitlines()[-1] == "hi"


async def test_outside_a_gateway_closing_a_conversation_cancels_its_children(endpoint: RemoteEndpoint, hire: Hire) -> None:
    endpoint.plays(CODER, Hang(["so far"]))
    endpoint.llm_says(calls(call(CODER), call(CODER, "call_1", "more")), says("never sent"))
    delegator = hire(agents=[CODER])
    await anyio.to_thread.run_sync(delegator.start)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delegator.arun)
        await anyio.to_thread.run_sync(endpoint.wait_for, lambda seen: seen.hanging == 2)
        delegator.conversation.interrupt()
        await anyio.to_thread.run_sync(delegator.close)
    keys = [received.headers["idempotency-key"] for received in endpoint.requests_to(CODER)]
    assert sorted(endpoint.cancelled) == sorted(keys)
