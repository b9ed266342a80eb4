"""`a2a-gateway runs`: short ids, and everything about one run."""

from typing import Any

import pytest

from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import ConversationId, KeyRecord, RunId, RunState
from a2a_gateway.runs.ports import RunProposal
from a2a_gateway.testing.script import Script, Step, marker
from tests.cli.conftest import Served
from tests.support.ask import delegation

AGENT = "openhands_default"


def task(text: str, *steps: Step) -> str:
    return f"{text} {marker(Script(steps))}"


def ask(served: Served, text: str, *arguments: str, **environ: str) -> Any:
    return served.run_json("ask", AGENT, text, *arguments, **environ)


def add_ended_run(served: Served, run_id: str, key: KeyRecord) -> None:
    """Put a run into the ledger, so that its id is known in advance."""
    ledger = served.gateway.running.gateway.started.result().store.ledger
    proposal = RunProposal(RunId(run_id), None, key.id, AGENT, run_id, ConversationId(run_id), Limits(), starts=True)

    async def add() -> None:
        await ledger.open_run(proposal)
        await ledger.close_run(proposal.id, RunState.FINISHED, stop_reason="finished")

    served.gateway.portal.call(add)


def test_the_beginning_of_an_id_and_last_name_a_run(served: Served) -> None:
    parent = ask(served, task("Go.", Step(tool_calls=(delegation("self", "Help.", Step("Helped.")),)), Step("Done.")))["run"]
    child = parent["children"][0]
    assert served.run_json("runs", "tree", parent["id"][:8]) == parent
    assert served.run_json("runs", "show", "last")["id"] == parent["id"]
    assert served.run_json("runs", "show", child["id"][:13])["id"] == child["id"]
    assert served.run_json("runs", "cancel", child["id"][:8])["id"] == child["id"]
    listed = served.run("runs", "list", "--limit", "1").stdout.splitlines()[1]
    assert listed.startswith(f"{parent['id'][:8]} ")


def test_a_beginning_of_several_ids_is_refused_with_all_of_them(served: Served) -> None:
    key, secret = served.gateway.create_key("two runs")
    first, second = "beef0001-0000-4000-8000-000000000000", "beef0002-0000-4000-8000-000000000000"
    for run_id in (first, second):
        add_ended_run(served, run_id, key)
    several = served.run("runs", "show", "beef", A2A_API_KEY=secret)
    assert several.exit_code == 2
    assert first in several.stderr
    assert second in several.stderr
    assert served.run_json("runs", "show", "beef0002", A2A_API_KEY=secret)["id"] == second


def test_no_beginning_finds_a_run_of_another_key(served: Served) -> None:
    owner, _ = served.gateway.create_key("owner")
    _, secret = served.gateway.create_key("other")
    add_ended_run(served, "cafe0001-0000-4000-8000-000000000000", owner)
    for name in ("cafe", "cafe0001-0000-4000-8000-000000000000"):
        refused = served.run("runs", "show", name, A2A_API_KEY=secret)
        assert (refused.exit_code, refused.stdout) == (4, "")
    assert served.run_json("runs", "list", A2A_API_KEY=secret) == []
    assert served.run("runs", "show", "last", A2A_API_KEY=secret).exit_code == 4


@pytest.mark.parametrize("name", ["abc", "%", "_", "cafe%", "../../v1/models", "LAST", "\x00", "é"])
def test_what_is_no_beginning_of_an_id_is_no_run(served: Served, name: str) -> None:
    refused = served.run("runs", "tree", name)
    assert refused.exit_code in (1, 2, 4)
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr


def test_a_run_is_shown_with_its_task_answer_limits_cost_workspace_and_children(served: Served) -> None:
    text = task("Go.", Step(tool_calls=(delegation("self", "Help.", Step("Helped.")),)), Step("All done."))
    parent = ask(served, text, "--budget-usd", "0.25")["run"]
    shown = served.run("runs", "show", "last").stdout
    details = served.run_json("runs", "show", "last")
    for part in (parent["id"], parent["conversation_id"], text, "All done.", details["workspace"], "budget_usd 0.250000"):
        assert part in shown
    assert parent["children"][0]["id"][:8] in shown
    assert (details["answer"]["text"], details["task"]["text"]) == ("All done.", text)
    assert [child["id"] for child in details["children"]] == [child["id"] for child in parent["children"]]


def test_a_failed_run_is_shown_with_its_error(served: Served) -> None:
    served.run("ask", AGENT, task("Go.", Step(status=401, error="no")))
    shown = served.run("runs", "show", "last").stdout
    assert "llm_auth_failed" in shown
    assert "Answer" not in shown
    assert served.run_json("runs", "show", "last")["error"]["code"] == "llm_auth_failed"


def test_a_conversation_continues_by_the_beginning_of_its_id(served: Served) -> None:
    first = ask(served, task("One.", Step("one")))
    again = ask(served, task("Two.", Step("two")), "--conversation", first["conversation_id"][:8])
    assert again["conversation_id"] == first["conversation_id"]
    assert again["run_id"] != first["run_id"]
    unknown = served.run("ask", AGENT, "Hi", "--conversation", "0000")
    assert unknown.exit_code == 4


@pytest.mark.parametrize(
    ("option", "value"), [("--max-depth", "99999999999"), ("--timeout", "99999999999"), ("--conversation", "zzz")]
)
def test_an_error_names_the_option_and_not_the_header(served: Served, option: str, value: str) -> None:
    refused = served.run("ask", AGENT, "Hi", option, value)
    assert refused.exit_code == 2
    assert f"{option}: " in refused.stderr
    assert "X-" not in refused.stderr
