"""Start three gateways in a chain, and let an agent of the first start a tree of runs across all of them.

    python examples/chain/chain.py

A desk, a workshop and a laboratory are three gateways: here three processes, but they could run on three machines.
`a2a-gateway peer add` connects the desk with the workshop, and the workshop with the laboratory. Then the command line asks the
desk's lead, which delegates to the workshop's builder, which delegates to the laboratory's tester. A delegation carries what is
left of budget, time and depth. At the end the desk draws the tree, with the cost of each run.

Without LLM_MODEL only the LLM's answers are scripted (`direct`, below). With LLM_MODEL and LLM_API_KEY set, a real LLM is used,
which costs money: at most the dollar that the lead's profile allows.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from openai import OpenAI

from a2a_gateway.testing.script import ChatRequest, ScriptedCall, Step
from a2a_gateway.testing.scripted_llm import ScriptedLLM

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "a2a_gateway"]
TASK = "How many steps does the Collatz sequence take from 27 down to 1? Have it computed, and checked by another agent."


def main() -> None:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="a2a-chain-")))
        llm = stack.enter_context(scripted_llm())
        print("Starting three gateways …", flush=True)
        processes = [stack.enter_context(serving(name, home / name, llm)) for name in ("desk", "workshop", "lab")]
        desk, workshop, lab = (process.wait_until_ready() for process in processes)
        for one, other in ((desk, workshop), (workshop, lab)):
            # The gateway that executes runs limits what a peer may spend on it in a day.
            other.command("peer", "add", one.url, "--accept-budget-per-day-usd", "5")
            one.command("peer", "add", other.url)
        wait_for(workshop, "lab/openhands_tester")
        wait_for(desk, "workshop/openhands_builder")
        desk.command("ask", "openhands_lead", " ".join(sys.argv[1:]) or TASK)
        for gateway in (desk, workshop, lab):
            gateway.command("spend")


@dataclass(frozen=True)
class Gateway:
    """A gateway that serves, and the environment in which `a2a-gateway` uses this one."""

    name: str
    url: str
    environ: Mapping[str, str]

    def command(self, *arguments: str) -> None:
        """Run a command against this gateway, and show its output."""
        print(f"\n{self.name}$ a2a-gateway {' '.join(arguments)}", flush=True)
        subprocess.run([*COMMAND, *arguments], env=dict(self.environ), check=True)


@dataclass(frozen=True)
class Process:
    """The process of a gateway that starts. Its log is in its data directory."""

    name: str
    environ: Mapping[str, str]
    process: "subprocess.Popen[str]"

    def wait_until_ready(self) -> Gateway:
        """Wait until it serves; read its URL, and the key that its first start has made."""
        announcement = self.process.stdout.readline() if self.process.stdout else ""
        if not announcement:
            sys.exit(f"The gateway {self.name} did not start:\n{Path(self.environ['A2A_DATA_DIR'], 'log').read_text()}")
        ready = json.loads(announcement)
        key_file = Path(ready["first_key_file"])
        key = key_file.read_text().strip()
        key_file.unlink()  # agents could read it
        of_client = {"A2A_BASE_URL": ready["url"], "A2A_API_KEY": key, "A2A_PUBLIC_URL": ready["url"]}
        return Gateway(self.name, ready["url"], {**self.environ, **of_client})


@contextmanager
def serving(name: str, data_dir: Path, llm: Mapping[str, str]) -> Iterator[Process]:
    """Start a gateway on a free port, as on a machine of its own; end it with the context."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("A2A_")}
    settings = {
        "A2A_GATEWAY_ID": name,
        "A2A_DATA_DIR": str(data_dir),
        "A2A_PROFILES": str(HERE / name),
        "A2A_PEER_REFRESH_S": "1",
    }
    environ = {**inherited, **llm, **settings, "OH_PERSISTENCE_DIR": str(data_dir / "openhands")}
    command = [*COMMAND, "serve", "--json", "--port", "0"]
    data_dir.mkdir(mode=0o700)
    with (
        (data_dir / "log").open("w") as log,
        subprocess.Popen(command, env=environ, cwd=data_dir, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield Process(name, environ, process)
        finally:
            process.send_signal(signal.SIGINT)  # the context manager of the process waits for its end


def wait_for(gateway: Gateway, model: str) -> None:
    """Wait until a gateway lists a model of a peer that was added."""
    with OpenAI(base_url=gateway.url, api_key=gateway.environ["A2A_API_KEY"]) as client:
        while model not in {served.id for served in client.models.list()}:
            time.sleep(0.2)


# The LLM's answers if no LLM is set. Only these are scripted: the agents really compute all that they quote.

PROGRAM = """\
number, steps = 27, 0
while number != 1:
    number = 3 * number + 1 if number % 2 else number // 2
    steps += 1
print(f"27 takes {steps} steps")
"""
CHECK = (
    "n=27 s=0; while [ $n -ne 1 ]; do [ $((n % 2)) -eq 0 ] && n=$((n / 2)) || n=$((3 * n + 1)); s=$((s + 1)); done; echo $s steps"
)


@contextmanager
def scripted_llm() -> Iterator[Mapping[str, str]]:
    """Yield OpenHands' variables for the LLM: the user's own, or those of a scripted one, priced as gpt-4o-mini is."""
    if os.environ.get("LLM_MODEL"):
        yield {}
        return
    print("The LLM's answers are scripted; set LLM_MODEL and LLM_API_KEY for a real LLM.")
    with ScriptedLLM.in_thread(direct=direct) as llm:
        yield {"LLM_MODEL": "openai/gpt-4o-mini", "LLM_BASE_URL": llm.base_url, "LLM_API_KEY": "scripted"}


def direct(request: ChatRequest) -> Step | None:
    """Choose the answer for one turn of one of the three agents."""
    results = [message for message in request.messages if message.get("role") == "tool"]
    match request.system_text, len(results):
        case system, 0 if "You lead a desk" in system:
            return delegate("workshop/openhands_builder", f"Compute it with a small Python program: {TASK}")
        case system, _ if "You lead a desk" in system:
            return Step(content=f"It is computed and checked. The workshop answered:\n{quote(answer_of(request))}")
        case system, 0 if "You are a builder" in system:
            created = {"command": "create", "path": "collatz.py", "file_text": PROGRAM}
            return Step(tool_calls=(ScriptedCall("file_editor", created),))
        case system, 1 if "You are a builder" in system:
            return Step(tool_calls=(ScriptedCall("terminal", {"command": "python3 collatz.py"}),))
        case system, 2 if "You are a builder" in system:
            return delegate("lab/openhands_tester", f"A program printed: {first_line(request)}. Check it with a shell loop.")
        case system, _ if "You are a builder" in system:
            return Step(content=f"collatz.py is written and ran. The laboratory answered:\n{quote(answer_of(request))}")
        case system, 0 if "You are a tester" in system:
            return Step(tool_calls=(ScriptedCall("terminal", {"command": CHECK}),))
        case system, _ if "You are a tester" in system:
            return Step(content=f"My own shell loop counts {first_line(request)}.")
    return None


def delegate(agent: str, task: str) -> Step:
    return Step(tool_calls=(ScriptedCall("delegate", {"agent": agent, "task": task}),))


def first_line(request: ChatRequest) -> str:
    return request.last_text.strip().splitlines()[0]


def answer_of(request: ChatRequest) -> str:
    """Return the agent's answer from the result of a delegation."""
    return request.last_text.partition("Its answer:")[2].strip() or request.last_text.strip()


def quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
