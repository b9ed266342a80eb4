"""What the delegating agent's LLM reads, and what a person watching sees."""

from dataclasses import replace

import pytest
from openhands.sdk import TextContent

from delegate_tool.protocol.context import DelegationBinding
from delegate_tool.protocol.result import CallerLeft, DelegationResult, DelegationStatus, make_refusal
from delegate_tool.remaining import Allowance, Remaining
from delegate_tool.schema import DelegationAction, DelegationObservation

FINISHED = DelegationResult(
    DelegationStatus.FINISHED,
    "All\ngood.",
    run_id="r1",
    cost_micro_usd=12_300,
    cost_complete=True,
    turns=3,
    runs=2,
    seconds=12.44,
)
LEFT = Remaining(depth=1, runs=4, budget_micro_usd=500_000, seconds=90.2)


def llm_text(result: DelegationResult, left: Remaining = LEFT) -> str:
    content = DelegationObservation.from_result("openhands_reviewer", result, left).to_llm_content
    return "\n".join(part.text for part in content if isinstance(part, TextContent))


def test_the_llm_reads_the_facts_then_the_answer() -> None:
    assert llm_text(FINISHED) == (
        "[openhands_reviewer: finished; 3 turns, 12.4 s, $0.012300, run r1]\n"
        "Left for delegations: 1 level of depth, 4 runs, at most $0.500000, 90 s.\n"
        "Its answer:\n"
        "All\ngood."
    )


def test_the_llm_reads_why_it_was_refused_and_what_is_left() -> None:
    assert llm_text(make_refusal("agent_not_allowed", "Not that one."), Remaining()) == (
        "[openhands_reviewer: refused; 0.0 s, $0.000000]\n"
        "Not that one. Choose an agent that the tool's description lists, or do it yourself."
    )


def test_the_llm_reads_what_a_broken_agent_had_written() -> None:
    broken = DelegationResult(DelegationStatus.FAILED, "half", error_message="The stream broke.", cost_micro_usd=1)
    assert llm_text(broken, Remaining()) == (
        "[openhands_reviewer: failed; 0.0 s, at least $0.000001]\nThe stream broke.\nWhat it had written by then:\nhalf"
    )


def test_the_llm_reads_that_nothing_bounds_the_cost() -> None:
    assert "no gateway" in llm_text(replace(FINISHED, budget_enforced=False))
    assert "no gateway" not in llm_text(replace(FINISHED, budget_enforced=True))


def test_an_empty_answer_is_said_to_be_empty() -> None:
    assert llm_text(DelegationResult(DelegationStatus.FINISHED), Remaining()).endswith("unknown cost]\nIt gave an empty answer.")


def test_a_partial_answer_can_be_gone_on_with() -> None:
    conversation_id = "6f1d2c9e-6f0f-4c58-9d0b-0d9e9b1f4a11"
    text = llm_text(DelegationResult(DelegationStatus.PARTIAL, "half", conversation_id=conversation_id), Remaining())
    assert f'conversation_id="{conversation_id}"' in text
    assert "incomplete" in text


def test_a_person_sees_a_small_tree() -> None:
    assert DelegationObservation.from_result("openhands_reviewer", FINISHED, LEFT).visualize.plain == (
        "● openhands_reviewer  finished\n"
        "├─ 3 turns, 12.4 s, $0.012300, run r1\n"
        "├─ All good.\n"
        "└─ left: 1 level of depth, 4 runs, at most $0.500000, 90 s"
    )


def test_an_observation_survives_being_stored() -> None:
    observation = DelegationObservation.from_result("openhands_reviewer", FINISHED, LEFT)
    assert DelegationObservation.model_validate_json(observation.model_dump_json()) == observation


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.5", "0.5"), (0.5, "0.500000"), (2, "2.000000"), (10**400, f"{10**400}.000000"), (None, None)],
    ids=["text", "float", "int", "more than a float holds", "nothing"],
)
def test_money_may_be_written_as_text_or_as_a_number(written: object, read: str | None) -> None:
    action = DelegationAction.model_validate({"agent": "a", "task": "t", "budget_usd": written})
    assert action.budget_usd == read


def test_a_person_sees_whom_an_action_calls_and_within_what() -> None:
    action = DelegationAction(agent="openhands_reviewer", task="Review it.", budget_usd="0.50", timeout_s=60)
    assert action.visualize.plain == "→ openhands_reviewer  (at most $0.50, 60 s)\nReview it."


def test_what_is_left_counts_down_and_never_below_nothing() -> None:
    binding = DelegationBinding(
        "http://gateway", "token", "r0", "openhands_lead", depth_left=1, runs_left=3, budget_left_micro_usd=20_000
    )
    allowance = Allowance(binding)
    assert allowance.charge(FINISHED) == Remaining(depth=1, runs=1, budget_micro_usd=7_700)
    assert allowance.charge(make_refusal("agent_not_allowed", "No.")) == Remaining(depth=1, runs=1, budget_micro_usd=7_700)
    assert allowance.charge(FINISHED) == Remaining(depth=1, runs=0, budget_micro_usd=0)


def test_what_the_endpoint_says_is_left_counts_more_than_what_was_counted_here() -> None:
    allowance = Allowance(DelegationBinding("http://gateway", "token", "r0", "openhands_lead", depth_left=1, runs_left=3))
    told = replace(FINISHED, left=CallerLeft(runs=9, budget_micro_usd=500))
    assert allowance.charge(told) == Remaining(depth=1, runs=9, budget_micro_usd=500)
    assert allowance.charge(FINISHED) == Remaining(depth=1, runs=7, budget_micro_usd=0)


def test_the_llm_is_told_in_one_text() -> None:
    observation = DelegationObservation.from_result("openhands_reviewer", FINISHED, LEFT)
    assert len(observation.to_llm_content) == 1
