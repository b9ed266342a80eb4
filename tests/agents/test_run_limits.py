"""Limits that end a run: time, turns, money, tokens."""

import pytest

from a2a_gateway.errors import BudgetExceeded, RunCancelled
from a2a_gateway.runs.events import Cancelled, Limited
from a2a_gateway.runs.limits import Limits
from a2a_gateway.testing.scripted_llm import ScriptedLLM
from delegate_tool.protocol.context import Narration
from tests.agents.driver import COST, USAGE, USED, Driver, RecordingMeter, script, think, user

pytestmark = pytest.mark.anyio


async def test_the_deadline_ends_a_run_with_what_was_said_by_then(driver: Driver) -> None:
    ran = await driver.run(script({"content": "one two", "gate": {"name": "never", "after": 2}}), timeout_s=2)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason, ran.code) == ("one ", "deadline_exceeded", "deadline_exceeded")
    assert ran.content == "one "


async def test_turns_are_llm_calls_and_the_last_words_are_shown(driver: Driver, llm: ScriptedLLM) -> None:
    turns = [think(str(number), content=f"Step {number}.") for number in range(5)]
    ran = await driver.run(script(*turns), limits=Limits(max_turns=3), narration=Narration.NONE)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason, ran.code) == ("Step 2.", "max_turns", "max_turns_exceeded")
    assert llm.traffic.received == len(ran.meter.settled) == 3


async def test_a_refused_reservation_ends_the_run_before_the_call(driver: Driver, llm: ScriptedLLM) -> None:
    meter = RecordingMeter(refuse_from=1, refusal=BudgetExceeded("Spent."))
    ran = await driver.run(script(think(content="Let me see."), {"content": "42."}), meter=meter)
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason, ran.code) == ("Let me see.", "budget_exceeded", "budget_exceeded")
    assert llm.traffic.received == len(meter.settled) == 1


async def test_a_run_that_the_ledger_has_closed_ends_as_cancelled(driver: Driver) -> None:
    meter = RecordingMeter(refuse_from=0, refusal=RunCancelled("Closed."))
    assert (await driver.run(user("hi"), meter=meter)).outcome == Cancelled("", "Closed.")


async def test_an_answer_cut_off_before_it_said_anything_is_paid_once(driver: Driver) -> None:
    silent = {"reasoning": "Let me think about", "finish_reason": "length", "usage": USAGE}
    ran = await driver.run(script(think(content="So far.", usage=USAGE), silent))
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason) == ("So far.", "max_tokens")
    assert ran.meter.settled == [(USED, COST)] * 2


async def test_an_answer_cut_off_at_the_limit_of_tokens_is_limited(driver: Driver) -> None:
    ran = await driver.run(script({"content": "one two", "finish_reason": "length"}))
    assert isinstance(ran.outcome, Limited)
    assert (ran.outcome.text, ran.outcome.reason) == ("one two", "max_tokens")


async def test_an_agent_that_repeats_itself_is_stuck(driver: Driver) -> None:
    ran = await driver.run(script(think("the same")))
    assert ran.code == "agent_stuck"
