"""The examples, each as a process of its own against a real gateway: what they print is what really came back."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_gateway.testing.script import Step, Usage
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from tests.support.ask import delegation, user
from tests.support.gateway import GatewayUnderTest, scripted_environ, scripted_gateway

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
POET = (
    "---\nname: poet\ndescription: Writes.\ntools: []\na2a: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 2.0}\n---\nYou write."
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayUnderTest, ScriptedLLM]]:
    with scripted_gateway(tmp_path_factory.mktemp("gateway"), {"poet": POET}) as pair:
        yield pair


def run_example(
    scene: tuple[GatewayUnderTest, ScriptedLLM], program: str, name: str, *arguments: str, **environ: str
) -> "subprocess.CompletedProcess[str]":
    gateway, llm = scene
    named = {"A2A_BASE_URL": gateway.base_url, "A2A_API_KEY": gateway.key, **scripted_environ(llm.base_url), **environ}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "LLM_"))}
    return subprocess.run(
        [program, str(EXAMPLES / name), *arguments],
        env={**inherited, "PYTHONPATH": str(EXAMPLES.parent), **named},
        capture_output=True,
        text=True,
        timeout=100,
    )


def run_with_children(command: list[str], environ: dict[str, str], *, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run a program that starts others, none of which outlives it."""
    environ = {**environ, "PYTHONPATH": str(EXAMPLES.parent)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def task(text: str, *steps: Step) -> str:
    return str(user(text, *steps)["content"])


def test_the_openai_script_streams_the_answer_and_tells_what_the_run_cost(scene: tuple[GatewayUnderTest, ScriptedLLM]) -> None:
    step = Step(content="A line of verse.", usage=Usage(prompt_tokens=100, completion_tokens=25))
    done = run_example(scene, sys.executable, "openai_script.py", task("Write.", step), A2A_MODEL="openhands_poet")
    assert done.returncode == 0, done.stderr
    first, answer, cost, going_on = done.stdout.splitlines()
    assert re.fullmatch(r"# openhands_poet, run \S+", first)
    assert answer == "A line of verse."
    assert cost.startswith("# 125 tokens, 0.00015 USD, in detail: {'self': '0.000150', 'descendants': '0.000000'")
    assert re.fullmatch(r"# to go on: X-OpenHands-ServerConversation-ID: [0-9a-f-]{36}", going_on)


def test_the_openai_script_says_in_a_line_what_the_gateway_refused(scene: tuple[GatewayUnderTest, ScriptedLLM]) -> None:
    done = run_example(scene, sys.executable, "openai_script.py", "Write.", A2A_MODEL="openhands_nobody")
    assert done.returncode == 1
    assert "openhands_nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_has_agents_answer_in_a_form_and_adds_up_what_they_cost(
    scene: tuple[GatewayUnderTest, ScriptedLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Step(content='{"days": 28, "reason": "On foot."}', usage=Usage(100, 25))
    monkeypatch.setattr(scene[1], "direct", lambda _: answer)
    done = run_example(scene, sys.executable, "delegate_script.py", "openhands_poet", "openhands_poet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["openhands_poet: 28 days. On foot."] * 2 + ["# 0.000300 USD"]
    done = run_example(scene, sys.executable, "delegate_script.py", "openhands_nobody")
    assert (done.returncode, done.stdout) == (1, "# 0.000000 USD\n")
    assert "model_not_found" in done.stderr
    assert "Traceback" not in done.stderr


def test_curl_alone_lists_the_agents_and_streams_an_answer(scene: tuple[GatewayUnderTest, ScriptedLLM]) -> None:
    done = run_example(scene, "sh", "curl.sh", "openhands_poet", 'Print "hello",\nplease.')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# asking openhands_poet\n")
    assert '"content":"ok"' in done.stdout.replace(" ", "")
    assert '"cost_details"' in done.stdout
    assert done.stdout.rstrip().endswith("data: [DONE]")
    assert re.search(r"^x-a2a-run-id: \S+", done.stderr, re.MULTILINE | re.IGNORECASE)
    _, llm = scene
    assert llm.traffic.requests[-1].last_text == 'Print "hello", please.'


def test_curl_alone_fails_where_the_gateway_refuses(scene: tuple[GatewayUnderTest, ScriptedLLM]) -> None:
    done = run_example(scene, "sh", "curl.sh", "openhands_poet", "Hi", A2A_API_KEY="not-a-key-of-this-gateway")
    assert done.returncode != 0
    assert "401" in done.stderr


def test_an_openhands_agent_of_ones_own_delegates_to_the_gateways(scene: tuple[GatewayUnderTest, ScriptedLLM]) -> None:
    haiku = Step(content="a haiku", usage=Usage(prompt_tokens=1000, completion_tokens=500))
    both = Step(tool_calls=(delegation("openhands_poet", "First.", haiku), delegation("openhands_poet", "Second.", haiku)))
    done = run_example(
        scene, sys.executable, "openhands_agent.py", task("Have two haiku written.", both, Step(content="The better one."))
    )
    assert done.returncode == 0, done.stderr
    assert "\nThe better one.\n" in done.stdout
    costs = re.findall(r"^# (\w+)(?::\S+)?: (\S+), (\d+\.\d{6}) USD$", done.stdout, re.MULTILINE)
    assert sorted(costs) == [
        ("agent", "openai/scripted", "0.000000"),
        ("delegate", "openhands_poet", "0.002000"),
        ("delegate", "openhands_poet", "0.002000"),
    ]


@pytest.mark.timeout(300)  # three gateways start, on whatever else the machine has to do
def test_three_gateways_draw_one_tree_whose_costs_add_up_in_each_ledger() -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "LLM_"))}
    done = run_with_children([sys.executable, str(EXAMPLES / "chain" / "chain.py")], inherited, timeout_s=280)
    assert done.returncode == 0, done.stderr
    assert "> > My own shell loop counts 111 steps." in done.stdout
    lead, builder, tester = re.findall(
        r"^\W*((?:\S+/)?openhands_\w+)(?: @ (\w+))? +(\d) finished .*(\$\S+) +\w+$", done.stderr, re.M
    )
    assert [run[:3] for run in (lead, builder, tester)] == [
        ("openhands_lead", "", "0"),
        ("workshop/openhands_builder", "workshop", "1"),
        ("lab/openhands_tester", "lab", "2"),
    ]
    in_all = [run[3] for run in (lead, builder, tester)]
    assert in_all == [amount for _, amount in re.findall(r"^(default|peer:\w+) +\d+ .* (\$\S+)", done.stdout, re.M)]


@pytest.mark.parametrize("example", ["openai_script.py", "delegate_script.py", "openhands_agent.py"])
def test_what_an_example_needs_it_asks_for_by_name(scene: tuple[GatewayUnderTest, ScriptedLLM], example: str) -> None:
    done = run_example(scene, sys.executable, example, A2A_API_KEY="")
    assert done.returncode == 1
    assert "A2A_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
