"""The script of the demo: a lead has a small program researched, written, reviewed and documented by its team.

Only the LLM's answers are scripted. The agents, their tools, the delegations, the limits and the costs are real: files are
written, programs run, and each answer quotes real results. The last scene tries to delegate at a depth that is not allowed.

A scene belongs to one agent and one task. The agent is recognised by its system prompt (the demo's profiles), the task by its
first words, which an earlier scene wrote. A scene with an empty task answers any other task of its agent.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from a2a_gateway.testing.script import ChatRequest, ScriptedCall, Step, text_of

DEMO_TASK: Final = "I need a small, tested Python program that lists prime numbers, with a README. Please have it made."

_PRIMES: Final = '''\
"""List the prime numbers up to a limit: python3 primes.py LIMIT"""

import sys


def primes(limit: int) -> list[int]:
    """Return all primes up to and including `limit`, in order."""
    if limit < 2:
        return []
    is_prime = bytearray([1]) * (limit + 1)
    is_prime[0:2] = b"\\0\\0"
    for number in range(2, int(limit**0.5) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number, prime in enumerate(is_prime) if prime]


if __name__ == "__main__":
    print(*primes(int(sys.argv[1])))
'''

_TESTS: Final = """\
import unittest

from primes import primes


class PrimesTest(unittest.TestCase):
    def test_small_limits(self) -> None:
        self.assertEqual([primes(0), primes(1), primes(2), primes(3)], [[], [], [2], [2, 3]])

    def test_the_limit_is_included(self) -> None:
        self.assertEqual(primes(29)[-1], 29)

    def test_agrees_with_trial_division(self) -> None:
        self.assertEqual(primes(2000), [n for n in range(2, 2001) if all(n % d for d in range(2, n))])


if __name__ == "__main__":
    unittest.main()
"""

_NOTES: Final = """\
# Listing primes

- Up to some ten million, the sieve of Eratosthenes is the method: O(n log log n) time, n bytes of memory.
- Crossing out may start at the square of each prime, and stop at the square root of the limit.
- Edge cases that implementations get wrong: limits 0, 1 and 2, and a limit that is itself prime.
"""

_README: Final = """\
# primes

Lists the prime numbers up to a limit, the limit included.

    python3 primes.py 30
    python3 -m unittest -q test_primes
"""


@dataclass(frozen=True, slots=True)
class _Scene:
    """The steps of one agent for tasks that begin with `task`: one per turn, the last of which is the answer."""

    system_prompt: str
    task: str
    acts: Sequence[Callable[[ChatRequest], Step]]


def direct_demo(request: ChatRequest) -> Step | None:
    """Choose the step for one turn of one of the demo's agents; None if the request comes from another agent."""
    index, task = _task(request)
    mine = [scene for scene in _SCENES if scene.system_prompt in request.system_text]
    scene = next((scene for scene in mine if task.startswith(scene.task)), None)
    if scene is None:
        return None
    return scene.acts[min(request.turns_since(index), len(scene.acts) - 1)](request)


def _task(request: ChatRequest) -> tuple[int, str]:
    users = [index for index, message in enumerate(request.messages) if message.get("role") == "user"]
    return (users[-1], text_of(request.messages[users[-1]]).strip()) if users else (-1, "")


def _results(request: ChatRequest) -> list[str]:
    """Return the results of the tools since the task, in order."""
    since = _task(request)[0] + 1
    return [text_of(message) for message in request.messages[since:] if message.get("role") == "tool"]


def _answer(result: str) -> str:
    """Return the agent's answer from the result of a delegation."""
    return result.partition("Its answer:")[2].strip() or result.strip()


def _output(result: str) -> str:
    """Return the output of a program, without the terminal's remarks."""
    lines = (re.sub(r"\[(?:The command|Current working|Python interpreter|Command).*", "", line) for line in result.splitlines())
    return "\n".join(line for line in lines if line.strip())


def _delegate(agent: str, task: str, context: str | None = None) -> ScriptedCall:
    return ScriptedCall("delegate", {"agent": agent, "task": task} | ({"context": context} if context else {}))


def _create(path: str, text: str) -> ScriptedCall:
    return ScriptedCall("file_editor", {"command": "create", "path": path, "file_text": text})


def _run(command: str) -> ScriptedCall:
    return ScriptedCall("terminal", {"command": command})


def _say(content: str, *calls: ScriptedCall) -> Callable[[ChatRequest], Step]:
    return lambda _: Step(content=content, tool_calls=calls)


def _ask_for_review(request: ChatRequest) -> Step:
    research, code = (*map(_answer, _results(request)), "", "")[:2]
    call = _delegate(
        "openhands_reviewer", "Review primes.py against its task: list the primes up to a limit.", f"{research}\n\n{code}"
    )
    return Step(content="Both are back. Before it counts as done, the reviewer looks at it.", tool_calls=(call,))


def _conclude(request: ChatRequest) -> Step:
    research, code, review, readme = (*map(_answer, _results(request)), "", "", "", "")[:4]
    return Step(
        content="primes.py lists the primes up to a limit; README.md explains how to use it.\n\n"
        f"From the coder:\n{_quote(code)}\n\nFrom the reviewer:\n{_quote(review)}\n\n"
        f"From the researcher:\n{_quote(research)}\n\nOn the README:\n{_quote(readme)}\n"
    )


def _report_tests(request: ChatRequest) -> Step:
    output = _output(request.last_text)
    verdict = "All tests pass" if re.search(r"^OK$", output, re.MULTILINE) else "The tests do not pass"
    return Step(content=f"{verdict}. primes.py and test_primes.py are written. The output of the last run:\n{_quote(output)}")


def _give_verdict(request: ChatRequest) -> Step:
    output = _output(request.last_text)
    works = "Traceback" not in output and "2 3 5 7" in output
    findings = "No findings: limits below 2 give an empty line, as they should." if works else "Blocks: it fails on small limits."
    return Step(content=f"{'accept' if works else 'reject'}\n{findings} What I ran printed:\n{_quote(output)}")


def _report_readme(request: ChatRequest) -> Step:
    return Step(content=f"README.md is written. A fresh copy of me had its commands tried:\n{_quote(_answer(request.last_text))}")


def _pass_on(request: ChatRequest) -> Step:
    return Step(content=_answer(request.last_text))


def _admit_refusal(request: ChatRequest) -> Step:
    ran, refusal = (*_results(request), "", "")[:2]
    why = (
        ""
        if "delegate" in request.tools
        else " At this depth the tool for it is not offered, and to call it all the same did not help."
    )
    return Step(
        content=f"Both commands of README.md work. They printed:\n{_quote(_output(ran))}\n"
        f"I wanted the researcher to check the wording, one level further down.{why} The error was:\n{_quote(refusal)}"
    )


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in text.strip().splitlines())


_LEAD: Final = "You lead a team of agents"
_RESEARCHER: Final = "You are a researcher"
_CODER: Final = "You are a programmer"
_REVIEWER: Final = "You are a reviewer"

_DOCUMENT: Final = "Document primes.py"
_TRY: Final = "Have every command of README.md tried"
_RUN_README: Final = "Run the commands of README.md"

# A scene with an empty task takes any task, so it stands after the other scenes of its agent.
_SCENES: Final[Sequence[_Scene]] = (
    _Scene(
        _LEAD,
        _DOCUMENT,
        (
            _say("A README first, then a test by an agent that has not seen it.", _create("README.md", _README)),
            _say("", _delegate("self", f"{_TRY}, without other knowledge, and report what happened.")),
            _report_readme,
        ),
    ),
    _Scene(
        _LEAD,
        _TRY,
        (_say("", _delegate("openhands_coder", f"{_RUN_README} and report their output. Change nothing.")), _pass_on),
    ),
    _Scene(
        _LEAD,
        "",
        (
            _say(
                "How to do it and doing it do not depend on each other, so I hand both out together.",
                _delegate(
                    "openhands_researcher", "Find out what a program that lists primes must get right; notes in notes/primes.md."
                ),
                _delegate("openhands_coder", "Write primes.py, which lists the primes up to a limit, with tests, and run them."),
            ),
            _ask_for_review,
            _say(
                "The review is in. What is left is the README, a small project of its own.",
                _delegate("self", f"{_DOCUMENT} in README.md, and make sure that every command in it has been tried."),
            ),
            _conclude,
        ),
    ),
    _Scene(
        _RESEARCHER,
        "",
        (
            _say("", ScriptedCall("glob", {"pattern": "**/*.md"})),
            _say("", _create("notes/primes.md", _NOTES)),
            _say(
                "The sieve of Eratosthenes, with limits 0, 1, 2 and a prime limit as the cases to test (from memory, sure). "
                "Notes: notes/primes.md."
            ),
        ),
    ),
    _Scene(
        _CODER,
        _RUN_README,
        (
            _say("", _run("python3 primes.py 30 && python3 -m unittest -q test_primes")),
            _say("", _delegate("openhands_researcher", "Find a clearer wording for README.md.")),
            _admit_refusal,
        ),
    ),
    _Scene(
        _CODER,
        "",
        (
            _say("", _create("primes.py", _PRIMES)),
            _say("", _create("test_primes.py", _TESTS)),
            _say("", _run("python3 -m unittest -q test_primes && python3 primes.py 30")),
            _report_tests,
        ),
    ),
    _Scene(
        _REVIEWER,
        "",
        (
            _say("", ScriptedCall("file_editor", {"command": "view", "path": "primes.py"})),
            _say("", _run("python3 primes.py 0; python3 primes.py 1; python3 primes.py 2; python3 primes.py 10")),
            _give_verdict,
        ),
    ),
)
