"""Three gateways in a chain, and one tree of runs across them.

    python examples/chain/chain.py

A desk, a workshop and a laboratory, each a gateway of its own: here three processes, but they could be three machines. With
`a2a-gateway peer add` the desk and the workshop get to know each other, and the workshop and the laboratory. Then somebody asks
the desk's lead, which delegates to the workshop's builder, which delegates to the laboratory's tester; what is left of the
budget, of time and of depth goes along. At the end the desk draws the tree, with what each run has cost.

Without LLM_MODEL the agents' words are written in advance (`speak`, below), and all else is real. With LLM_MODEL and LLM_API_KEY
set, a real LLM is used, which costs money: at most the dollar that the lead's profile allows.
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
TASK = "How many steps does the Collatz sequence take from 27 down to 1? Have it computed, and checked by somebody else."


def main() -> None:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="a2a-chain-")))
        llm = stack.enter_context(scripted_llm())
        print("Starting three gateways …", flush=True)
        processes = [stack.enter_context(serving(name, home / name, llm)) for name in ("desk", "workshop", "lab")]
        desk, workshop, lab = (process.announced() for process in processes)
        for one, other in ((desk, workshop), (workshop, lab)):
            # What the peer may spend here a day is its host's decision, whatever it is granted.
            other.command("peer", "add", one.url, "--accept-budget-per-day-usd", "5")
            one.command("peer", "add", other.url)
        wait_for(workshop, "lab/openhands_tester")
        wait_for(desk, "workshop/openhands_builder")
        desk.command("ask", "openhands_lead", " ".join(sys.argv[1:]) or TASK)
        for gateway in (desk, workshop, lab):
            gateway.command("spend")


@dataclass(frozen=True)
class Gateway:
    """A gateway that serves, and the environment in which `a2a-gateway` means this one."""

    name: str
    url: str
    environ: Mapping[str, str]

    def command(self, *arguments: str) -> None:
        """Run a command of this gateway, and show what it says."""
        print(f"\n{self.name}$ a2a-gateway {' '.join(arguments)}", flush=True)
        subprocess.run([*COMMAND, *arguments], env=dict(self.environ), check=True)


@dataclass(frozen=True)
class Process:
    """A gateway that starts. Its log is in its data directory."""

    name: str
    environ: Mapping[str, str]
    process: "subprocess.Popen[str]"

    def announced(self) -> Gateway:
        """Wait until it serves, and read where, and the key that its first start has made."""
        announcement = self.process.stdout.readline() if self.process.stdout else ""
        if not announcement:
            sys.exit(f"The gateway {self.name} did not start:\n{Path(self.environ['A2A_DATA_DIR'], 'log').read_text()}")
        ready = json.loads(announcement)
        of_client = {"A2A_BASE_URL": ready["url"], "A2A_API_KEY": ready["first_key"], "A2A_PUBLIC_URL": ready["url"]}
        return Gateway(self.name, ready["url"], {**self.environ, **of_client})


@contextmanager
def serving(name: str, data_dir: Path, llm: Mapping[str, str]) -> Iterator[Process]:
    """Start a gateway on a free port, as its owner would on a machine of its own; end it with the context."""
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
            process.send_signal(signal.SIGINT)  # and the context of the process waits for it


def wait_for(gateway: Gateway, model: str) -> None:
    """Wait until a gateway has taken up a peer that was added, and has asked it for its agents."""
    with OpenAI(base_url=gateway.url, api_key=gateway.environ["A2A_API_KEY"]) as client:
        while model not in {served.id for served in client.models.list()}:
            time.sleep(0.2)


# What the agents say where no LLM is set. The words alone: all that they quote is really computed.

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
    print("The agents' words are scripted; set LLM_MODEL and LLM_API_KEY for a real LLM.")
    with ScriptedLLM.in_thread(direct=speak) as llm:
        yield {"LLM_MODEL": "openai/gpt-4o-mini", "LLM_BASE_URL": llm.base_url, "LLM_API_KEY": "scripted"}


def speak(request: ChatRequest) -> Step | None:
    """Answer one turn of one of the three agents."""
    heard = [str(message.get("content")) for message in request.messages if message.get("role") == "tool"]
    match request.system_text, len(heard):
        case system, 0 if "You lead a desk" in system:
            return delegate("workshop/openhands_builder", f"Compute it with a small Python program: {TASK}")
        case system, _ if "You lead a desk" in system:
            return Step(content=f"It is computed and checked. The workshop says:\n{quoted(answer(request))}")
        case system, 0 if "You are a builder" in system:
            created = {"command": "create", "path": "collatz.py", "file_text": PROGRAM}
            return Step(tool_calls=(ScriptedCall("file_editor", created),))
        case system, 1 if "You are a builder" in system:
            return Step(tool_calls=(ScriptedCall("terminal", {"command": "python3 collatz.py"}),))
        case system, 2 if "You are a builder" in system:
            return delegate("lab/openhands_tester", f"A program says: {first_line(request)}. Check it with a shell loop.")
        case system, _ if "You are a builder" in system:
            return Step(content=f"collatz.py is written and ran. The laboratory says:\n{quoted(answer(request))}")
        case system, 0 if "You are a tester" in system:
            return Step(tool_calls=(ScriptedCall("terminal", {"command": CHECK}),))
        case system, _ if "You are a tester" in system:
            return Step(content=f"My own shell loop counts {first_line(request)}.")
    return None


def delegate(agent: str, task: str) -> Step:
    return Step(tool_calls=(ScriptedCall("delegate", {"agent": agent, "task": task}),))


def first_line(request: ChatRequest) -> str:
    return request.last_text.strip().splitlines()[0]


def answer(request: ChatRequest) -> str:
    """The agent's own words in what a delegation returned."""
    return request.last_text.partition("Its answer:")[2].strip() or request.last_text.strip()


def quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
