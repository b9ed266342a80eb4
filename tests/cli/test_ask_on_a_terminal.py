"""`a2a-gateway ask` and `chat` on a real pseudo-terminal: the status line, and a chat."""

import json
import os
import re

import pytest

from a2a_gateway.testing.script import Gate, Step
from tests.cli.conftest import Served
from tests.support.ask import call, delegation, user
from tests.support.pseudo_terminal import CTRL_C, CTRL_D, pseudo_terminal

AGENT = "openhands_default"
_PAINTED = re.compile(r"\r\x1b\[2K\x1b\[2m([^\x1b]*)")


def script(text: str, *steps: Step) -> str:
    return str(user(text, *steps)["content"])


def test_the_status_line_shows_what_tools_and_children_do_and_leaves_no_trace(served: Served) -> None:
    children = [delegation("self", f"Part {part}.", Step(content="done", gate=Gate(f"child {part}"))) for part in (1, 2)]
    steps = (
        Step(content="Let me see.", tool_calls=(call("terminal", command="cat gate"),)),
        Step(tool_calls=tuple(children)),
        Step(content="All done."),
    )
    with pseudo_terminal("ask", AGENT, script("Work.", *steps), environ=served.environ, columns=60) as terminal:
        terminal.wait_for(rf"Run [0-9a-f]{{8}} of {AGENT}")
        served.llm.block_until(lambda traffic: traffic.waiting_at("child 1") + traffic.waiting_at("child 2") == 2)
        terminal.wait_for(rf"{AGENT} \d+ s · 2 agents: {AGENT[:9]}")
        served.llm.open_gate("child 1")
        terminal.wait_for(rf"{AGENT} \d+ s · {AGENT} \(running, \d+ s\)")
        served.llm.open_gate("child 2")
        assert terminal.wait() == 0
    painted = _PAINTED.findall(terminal.shown)
    assert painted
    assert max(map(len, painted)) < 60
    lines = terminal.plain.splitlines()
    assert lines[1:4] == ["Let me see.", "", "All done."]
    assert [line.split()[0] for line in lines[5:9]] == ["run", AGENT, "├──", "└──"]


def test_where_the_answer_goes_to_a_file_the_terminal_shows_the_rest(served: Served) -> None:
    reader, writer = os.pipe()
    task = script("Work.", Step(content="The answer.", gate=Gate("to a file", after=1)))
    with pseudo_terminal("ask", AGENT, task, environ=served.environ, stdout=writer) as terminal, os.fdopen(reader) as answer:
        os.close(writer)
        terminal.wait_for(rf"{AGENT} \d+ s · thinking")
        served.llm.open_gate("to a file")
        terminal.wait_for("finished")
        assert terminal.wait() == 0
        assert answer.read() == "The answer.\n"
    assert "The answer." not in terminal.shown


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_no_variable_brings_the_status_line_into_a_log(served: Served, variable: str) -> None:
    task = script("Work.", Step(content="The answer.", ttft_ms=500))
    result = served.run("ask", AGENT, task, **{variable: "1"})
    assert "thinking" not in result.stderr
    assert "\r" not in result.stderr


def test_a_chat_keeps_its_conversation_and_survives_a_cancelled_answer(served: Served) -> None:
    with pseudo_terminal("chat", AGENT, environ=served.environ, columns=200) as terminal:
        terminal.wait_for("> ")
        terminal.type(f"{script('One.', Step(content='The first answer.'))}\n")
        terminal.wait_for(r"finished · \d+\.\d s · \$0\.000000 [^\n]* run [0-9a-f]{8}")
        terminal.type(f"{script('Two.', Step(content='The second', gate=Gate('second', after=1)))}\n")
        served.llm.block_until(lambda traffic: traffic.waiting_at("second") == 1)
        terminal.type(CTRL_C)
        terminal.wait_for(r"cancelled · ")
        terminal.type(f"{script('Three.', Step(content='The third answer.'))}\n")
        terminal.wait_for("finished · ")
        assert "The first answer." in json.dumps(served.llm.traffic.requests[-1].body["messages"])
        terminal.type("/cost\n")
        terminal.wait_for(r"Answers: 3, cost: \$0\.000000")
        terminal.type("/tree\n")
        terminal.wait_for(rf"{AGENT}.* 0 .*finished")
        terminal.type("/etc\n")
        terminal.wait_for("no such command")
        terminal.type("/new\n/help\n")
        terminal.wait_for("/quit")
        terminal.type(f"{script('Four.', Step(content='The fourth answer.'))}\n")
        terminal.wait_for("finished · ")
        assert "The first answer." not in json.dumps(served.llm.traffic.requests[-1].body["messages"])
        terminal.wait_for("> ")  # before the prompt, a terminal keeps text but no Ctrl-D
        terminal.type(CTRL_D)
        continued = terminal.wait_for(f"a2a-gateway chat {AGENT} --conversation [0-9a-f]{{8}}")
        assert terminal.wait() == 0
    latest = served.run_json("runs", "list", "--limit", "3")
    assert latest[0]["conversation_id"].startswith(continued.rpartition(" ")[2])
    assert latest[1]["conversation_id"] == latest[2]["conversation_id"] != latest[0]["conversation_id"]


def test_asking_without_a_task_on_a_terminal_begins_a_chat_that_ctrl_c_leaves(served: Served) -> None:
    before = served.run_json("runs", "list")
    with pseudo_terminal("ask", AGENT, environ=served.environ) as terminal:
        terminal.wait_for("> ")
        terminal.type(CTRL_C)
        assert terminal.wait() == 0
    assert "Continue with" not in terminal.shown
    assert served.run_json("runs", "list") == before
