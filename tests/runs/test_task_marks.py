"""Marks of tasks: the same for a task that was passed on, different for another one, and meaningless without the key."""

import pytest

from a2a_gateway.errors import CycleDetected
from a2a_gateway.runs.task_marks import TaskMarks
from delegate_tool.client import Delegation
from tests.runs.proposals import admit_child, admit_root

MARKS = TaskMarks()
TASK = "Review the café's till\n(file till.py)."


@pytest.mark.parametrize(
    "passed_on",
    [
        f"  {TASK}\r\n",
        TASK.replace(" ", "\u00a0"),
        TASK.replace("\n", "\u2028\t"),
        TASK.replace("Review the", "Reviewthe"),
        "\ufeff" + TASK.replace("e", "e\u200b").replace("t", "t\u2060"),
        TASK.replace("(", "\u202a(\u202c").replace("w", "w\ufe0f"),
        TASK.replace("R", "R\u00ad\U000e0041"),
        Delegation("a", TASK, "It was written in a hurry.").prompt,
        Delegation("a", f"{TASK} ", "Another agent looked at it already.").prompt,
    ],
)
def test_a_task_is_recognised_whatever_is_not_seen_of_it_and_whatever_context_it_has(passed_on: str) -> None:
    assert MARKS.mark("openhands_a", passed_on) == MARKS.mark("openhands_a", TASK)


@pytest.mark.parametrize(
    ("agent", "task"), [("openhands_b", TASK), ("openhands_a", TASK.replace("till", "bill")), ("openhands_a", "")]
)
def test_another_agent_or_another_task_has_another_mark(agent: str, task: str) -> None:
    assert MARKS.mark(agent, task) != MARKS.mark("openhands_a", TASK)


def test_a_task_that_is_all_context_is_compared_as_a_whole() -> None:
    first, second = (MARKS.mark("openhands_a", f"\n\n# Context\n\n{text}") for text in ("one", "two"))
    assert first != second


def test_a_mark_says_nothing_to_another_gateway() -> None:
    assert TaskMarks().mark("openhands_a", TASK) != MARKS.mark("openhands_a", TASK)


def test_a_run_whose_mark_is_in_its_trail_is_refused_at_the_root_and_below_it() -> None:
    for admit in (admit_root, admit_child):
        assert admit(task_hash="mine", trail=("other",)).task_hash == "mine"
        with pytest.raises(CycleDetected):
            admit(task_hash="mine", trail=("other", "mine"))
