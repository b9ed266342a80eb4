"""The ledger: money is set aside, charged to all that it is of, and corrected when the truth comes late."""

from dataclasses import replace
from datetime import date

import pytest

from a2a_gateway.errors import BudgetExceeded, BudgetHeld, GatewayError, RunCancelled
from a2a_gateway.runs.events import AgentCost, Remainder, RunSummary
from a2a_gateway.runs.model import (
    RunId,
    RunState,
    SpendCaps,
    TokenUsage,
)
from a2a_gateway.runs.ports import Charge
from a2a_gateway.stores import SpendBy, SpendLine
from tests.error_texts.texts import pattern_of
from tests.stores.ledger_bench import NOW, Bench
from tests.stores.quotes import FREE, calls_of

pytestmark = pytest.mark.anyio


async def test_a_turn_is_charged_to_its_run_and_to_all_above(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root")
    await bench.running("child", "root", "openhands_b", budget_micro_usd=5_000)
    await bench.running("grandchild", "child", "openhands_b")
    await bench.turn("root", TokenUsage(100, 10, 50, 5), 1_000)
    await bench.turn("child", TokenUsage(200, 20), 200)
    await bench.turn("grandchild", TokenUsage(300, 30, 0, 3), 30)
    await bench.turn("grandchild", TokenUsage(1, 1), 4)

    root, child, grandchild = await ledger.subtree(RunId("root"))
    assert [
        (run.id, run.cost_self_micro_usd, run.cost_tree_micro_usd, run.turns, run.descendants)
        for run in (root, child, grandchild)
    ] == [
        ("root", 1_000, 1_234, 1, 2),
        ("child", 200, 234, 1, 1),
        ("grandchild", 34, 34, 2, 0),
    ]
    assert grandchild.usage == TokenUsage(301, 31, 0, 3)
    assert await ledger.summary(RunId("root")) == RunSummary(
        root, (AgentCost("openhands_b", 2, 234),), TokenUsage(601, 61, 50, 8), 10_000_000 - 1_234
    )
    assert await ledger.summary(RunId("grandchild")) == RunSummary(
        grandchild, (), grandchild.usage, 5_000 - 250 - 34, Remainder(runs=48, budget_micro_usd=5_000 - 250 - 234)
    )
    key = await bench.store.keys.get_key(bench.key.id)
    assert key is not None
    assert key.spent_micro_usd == 1_234


async def test_settling_a_hold_twice_charges_once(bench: Bench) -> None:
    await bench.running("root")
    hold = await bench.turn("root", TokenUsage(1, 1), 7)
    await bench.store.ledger.settle(hold, Charge(TokenUsage(1, 1), 7))
    run = await bench.store.ledger.get_run(RunId("root"))
    assert run is not None
    assert (run.turns, run.usage, run.cost_tree_micro_usd) == (1, TokenUsage(1, 1), 7)


async def test_a_call_is_charged_also_when_its_run_has_ended_meanwhile(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root")
    await bench.running("child", "root")
    hold = await ledger.reserve(RunId("child"), FREE)
    for run_id in ("child", "root"):
        await ledger.close_run(RunId(run_id), RunState.CANCELLED, stop_reason="cancelled", error_code="run_cancelled")
    await ledger.settle(hold, Charge(TokenUsage(9, 9), 90))
    assert [(run.state, run.cost_tree_micro_usd) for run in await ledger.subtree(RunId("root"))] == [(RunState.CANCELLED, 90)] * 2


async def test_tokens_at_an_unknown_price_make_the_cost_of_all_above_incomplete(bench: Bench) -> None:
    for run_id, parent_id in (("root", None), ("a", "root"), ("b", "root")):
        await bench.running(run_id, parent_id)
    await bench.turn("a", TokenUsage(5, 5), None)
    await bench.turn("b", TokenUsage(), None)  # a call that failed before it used anything
    complete = {run.id: run.cost_complete for run in await bench.store.ledger.subtree(RunId("root"))}
    assert complete == {"root": False, "a": False, "b": True}


async def test_a_turn_cannot_give_money_back(bench: Bench) -> None:
    await bench.running("root")
    hold = await bench.store.ledger.reserve(RunId("root"), FREE)
    with pytest.raises(ValueError, match="must not be negative"):
        await bench.store.ledger.settle(hold, Charge(TokenUsage(1, 1), -1))


async def test_a_spent_budget_stops_the_run_and_its_descendants_before_their_next_call(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=100)
    await bench.running("child", "root")
    await bench.turn("child", TokenUsage(1, 1), 100)
    for run_id in ("root", "child"):
        with pytest.raises(GatewayError) as refusal:
            await bench.store.ledger.reserve(RunId(run_id), calls_of(1))
        assert refusal.value.code == "budget_exceeded"
    with pytest.raises(GatewayError) as refusal:
        await bench.open("other", "root")
    assert refusal.value.code == "budget_exceeded"


async def test_a_keys_budget_is_shared_by_its_trees(bench: Bench) -> None:
    key, _ = await bench.store.keys.create_key("small", caps=SpendCaps(50))
    small = replace(bench, key=key)
    await small.running("one")
    two = await small.running("two")
    assert two.limits.budget_micro_usd == 50
    await small.turn("one", TokenUsage(1, 1), 60)
    summary = await bench.store.ledger.summary(RunId("two"))
    assert summary is not None
    assert summary.remaining_micro_usd == 0
    with pytest.raises(GatewayError) as refusal:
        await bench.store.ledger.reserve(RunId("two"), calls_of(1))
    assert refusal.value.code == "budget_exceeded"


async def test_a_crash_loses_live_runs_and_makes_the_cost_of_open_calls_incomplete(bench: Bench) -> None:
    ledger = bench.store.ledger
    for run_id, parent_id in (("root", None), ("calling", "root"), ("idle", "root")):
        await bench.running(run_id, parent_id)
    await bench.open("queued", "idle")
    await bench.running("ended")
    ended = (await ledger.close_run(RunId("ended"), RunState.FINISHED, stop_reason="finished")).record
    await ledger.reserve(RunId("calling"), FREE)
    bench.clock.at += 60

    assert await ledger.mark_lost() == 4
    lost = {run.id: (run.state, run.stop_reason, run.ended_at, run.cost_complete) for run in await ledger.subtree(RunId("root"))}
    fate = (RunState.LOST, "run_lost", NOW + 60)
    assert lost == {"root": (*fate, False), "calling": (*fate, False), "idle": (*fate, True), "queued": (*fate, True)}
    assert await ledger.get_run(RunId("ended")) == ended
    assert await ledger.mark_lost() == 0


async def test_money_is_set_aside_for_a_call_in_its_run_and_all_above_and_given_back(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=10_000)
    await bench.running("child", "root")
    hold = await bench.store.ledger.reserve(RunId("child"), calls_of(3_000))
    assert (hold.reserved_micro_usd, hold.last, hold.budget_micro_usd, hold.left_micro_usd) == (3_000, False, 9_500, 9_500)
    assert [run.reserved_micro_usd for run in await bench.store.ledger.subtree(RunId("root"))] == [3_000, 3_000]
    with pytest.raises(BudgetHeld):
        await bench.store.ledger.reserve(RunId("root"), calls_of(7_000))
    await bench.store.ledger.settle(hold, Charge(TokenUsage(5, 5), 1_000))
    after = await bench.store.ledger.subtree(RunId("root"))
    assert [(run.reserved_micro_usd, run.cost_tree_micro_usd) for run in after] == [(0, 1_000)] * 2
    assert not (await bench.store.ledger.reserve(RunId("root"), calls_of(7_000))).last


async def test_a_run_has_one_last_call(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=1_000)
    await bench.turn("root", TokenUsage(1, 1), 960)
    last = await bench.store.ledger.reserve(RunId("root"), calls_of(30))
    assert (last.last, last.left_micro_usd) == (True, 40)
    await bench.store.ledger.settle(last, Charge(TokenUsage(1, 1), 5))
    with pytest.raises(GatewayError) as refusal:
        await bench.store.ledger.reserve(RunId("root"), calls_of(30))
    assert (refusal.value.code, refusal.value.details["run_id"]) == ("budget_exceeded", "root")


async def test_a_last_call_that_was_refused_is_none(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=1_000)
    await bench.turn("root", TokenUsage(1, 1), 960)
    for charge in (Charge(), Charge(cost_micro_usd=None), Charge(TokenUsage(1, 1), 0)):
        last = await bench.store.ledger.reserve(RunId("root"), calls_of(30))
        assert last.last
        await bench.store.ledger.settle(last, charge)
    with pytest.raises(BudgetExceeded):
        await bench.store.ledger.reserve(RunId("root"), calls_of(30))


async def test_a_side_call_gets_nothing_of_what_is_kept_back_for_the_last_turn(bench: Bench) -> None:
    await bench.running("root", budget_micro_usd=1_000)
    await bench.turn("root", TokenUsage(1, 1), 960)
    with pytest.raises(BudgetExceeded):
        await bench.store.ledger.reserve(RunId("root"), replace(calls_of(30), is_turn=False))
    assert (await bench.store.ledger.reserve(RunId("root"), calls_of(30))).last


async def test_a_keys_budget_of_a_day_begins_anew_at_midnight(bench: Bench) -> None:
    key, _ = await bench.store.keys.create_key("daily", caps=SpendCaps(day_micro_usd=50, month_micro_usd=80))
    daily = replace(bench, key=key)
    await daily.running("one")
    await daily.turn("one", TokenUsage(1, 1), 50)
    with pytest.raises(GatewayError, match=pattern_of("budget_exceeded: the key's of this day")) as spent:
        await daily.open("two")
    assert (spent.value.code, spent.value.details["budget_remaining_usd"]) == ("budget_exceeded", "0.000000")
    bench.clock.at += 86_400
    assert (await daily.running("three")).limits.budget_micro_usd == 30
    await daily.turn("three", TokenUsage(1, 1), 30)
    with pytest.raises(GatewayError, match=pattern_of("budget_exceeded: the key's of this month")) as spent:
        await daily.open("four")
    assert (spent.value.code, spent.value.details["budget_remaining_usd"]) == ("budget_exceeded", "0.000000")


async def test_a_profiles_budget_binds_all_its_runs_whoever_starts_them(bench: Bench) -> None:
    other = replace(bench, key=(await bench.store.keys.create_key("other"))[0])
    await bench.running("one")
    await other.running("two")
    caps, ledger = SpendCaps(day_micro_usd=100), bench.store.ledger
    hold = await ledger.reserve(RunId("one"), calls_of(60), caps)
    with pytest.raises(BudgetHeld):
        await ledger.reserve(RunId("two"), calls_of(60), caps)
    await ledger.settle(hold, Charge(TokenUsage(1, 1), 60))
    with pytest.raises(GatewayError, match=pattern_of("budget_exceeded: the agent's of this day")) as refusal:
        await ledger.reserve(RunId("two"), calls_of(60), caps)
    assert (refusal.value.code, type(refusal.value).__name__) == ("budget_exceeded", "BudgetExceeded")
    assert refusal.value.details["budget_remaining_usd"] == "0.000040"


async def test_a_call_that_a_crash_cut_short_is_charged_what_it_has_presumably_used(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root", budget_micro_usd=100_000)
    await bench.running("child", "root")
    new, streaming, long, ended = [
        await ledger.reserve(RunId(run_id), replace(calls_of(10_000), sent_micro_usd=sent))
        for run_id, sent in (("child", 100), ("child", 200), ("root", 300), ("root", 400))
    ]
    assert [hold.presumed_micro_usd for hold in (new, streaming, long, ended)] == [100, 200, 300, 400]
    await ledger.settle(ended, Charge(TokenUsage(1, 1), 7))
    await ledger.presume({streaming.id: 2_500, long.id: 999_999, ended.id: 400})

    assert await ledger.mark_lost() == 2
    accounts = [
        (run.cost_tree_micro_usd, run.reserved_micro_usd, run.cost_complete) for run in await ledger.subtree(RunId("root"))
    ]
    assert accounts == [(7 + 100 + 2_500 + 10_000, 0, False), (100 + 2_500, 0, False)]
    await ledger.presume({streaming.id: 9_000})
    await ledger.settle(streaming, Charge(TokenUsage(5, 5), 2_600))
    await ledger.settle(long, Charge(TokenUsage(5, 5), 11_000))
    key = await bench.store.keys.get_key(bench.key.id)
    assert key is not None
    assert key.spent_micro_usd == 7 + 100 + 2_600 + 11_000
    (line,) = await bench.store.spending.lines(SpendBy.KEY)
    assert (line.cost_micro_usd, line.calls, line.complete) == (key.spent_micro_usd, 4, False)


async def test_a_crash_exceeds_no_budget_of_a_run_and_a_keys_by_at_most_its_holds(bench: Bench) -> None:
    ledger, budget = bench.store.ledger, 10_000
    small = replace(bench, key=(await bench.store.keys.create_key("small", caps=SpendCaps(budget)))[0])
    really_used = 0
    for number in range(3):
        run_id = RunId(f"root-{number}")
        await small.running(run_id)
        hold = await ledger.reserve(run_id, replace(calls_of(4_000), sent_micro_usd=1_000))
        really_used += hold.reserved_micro_usd  # the worst case: the estimate is far too low each time
        assert await ledger.mark_lost() == 1
        (lost,) = await ledger.subtree(run_id)
        assert lost.limits.budget_micro_usd is not None
        assert hold.reserved_micro_usd <= lost.limits.budget_micro_usd
        with pytest.raises(RunCancelled):
            await ledger.reserve(run_id, FREE)
    assert really_used <= budget + 3 * (4_000 - 1_000)
    assert (await small.running("last")).limits.budget_micro_usd == budget - 3 * 1_000


async def test_a_crashed_run_on_a_peer_is_charged_in_full_until_the_peer_was_asked(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root", budget_micro_usd=10_000)
    await bench.running("child", "root")
    escrow = await ledger.escrow(RunId("child"))
    assert escrow.reserved_micro_usd == 9_500
    await ledger.note_remote(RunId("child"), "far-run")
    assert await ledger.mark_lost() == 2

    child = (await ledger.subtree(RunId("root")))[1]
    assert (child.cost_tree_micro_usd, child.reserved_micro_usd, child.cost_complete) == (9_500, 0, False)
    assert child.remote_run_id == "far-run"
    ((run, hold),) = await ledger.list_unreconciled()
    assert (run, hold.id, hold.reserved_micro_usd) == (child, escrow.id, 9_500)

    await ledger.settle(hold, Charge(TokenUsage(100, 10), 1_200, turns=3, runs=2))
    for record in await ledger.subtree(RunId("root")):
        assert (record.cost_tree_micro_usd, record.cost_complete, record.state) == (1_200, True, RunState.LOST)
    assert await ledger.list_unreconciled() == []
    key = await bench.store.keys.get_key(bench.key.id)
    assert key is not None
    assert key.spent_micro_usd == 1_200
    assert await bench.store.spending.lines(SpendBy.AGENT) == [SpendLine("openhands_a", 1, 100, 10, 1_200, complete=True)]


async def test_an_overdue_call_is_charged_in_full_and_corrected_when_settled(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root", budget_micro_usd=10_000)
    await bench.running("child", "root")
    hold = await ledger.reserve(RunId("child"), replace(calls_of(3_000), sent_micro_usd=10))
    await ledger.close_run(RunId("child"), RunState.CANCELLED, stop_reason="cancelled")

    async def accounts() -> list[tuple[int, int, bool]]:
        records = await ledger.subtree(RunId("root"))
        return [(run.cost_tree_micro_usd, run.reserved_micro_usd, run.cost_complete) for run in records]

    await ledger.forget_expired(NOW + 599)
    assert await accounts() == [(0, 3_000, True), (0, 3_000, False)]  # the child has ended, and this is not booked
    await ledger.forget_expired(NOW + 600)
    assert await accounts() == [(3_000, 0, False)] * 2
    await ledger.settle(hold, Charge(TokenUsage(5, 5), 800))
    assert await accounts() == [(800, 0, True)] * 2


async def test_a_charge_that_is_not_final_is_incomplete_until_it_is(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root", budget_micro_usd=10_000)
    escrow = await ledger.escrow(RunId("root"))
    for charge, cost, complete, waiting in (
        (Charge(TokenUsage(10, 1), 500, final=False), 500, False, 1),
        (Charge(TokenUsage(20, 2), 900, turns=0, final=False), 900, False, 1),
        (Charge(TokenUsage(0, 0), 700, turns=0), 700, True, 0),
        (Charge(TokenUsage(9, 9), 9_999), 700, True, 0),
    ):
        await ledger.settle(escrow, charge)
        summary = await ledger.summary(RunId("root"))
        assert summary is not None
        root = summary.record
        assert (root.cost_tree_micro_usd, root.reserved_micro_usd, root.cost_complete) == (cost, 0, complete)
        assert (summary.pending, len(await ledger.list_unreconciled())) == (waiting == 1, waiting)
    assert (root.usage, root.turns) == (TokenUsage(30, 3), 1)


async def test_what_is_left_of_a_run_includes_its_profiles_budget_and_not_its_parents(bench: Bench) -> None:
    caps, ledger = SpendCaps(day_micro_usd=700), bench.store.ledger
    await bench.running("root", budget_micro_usd=10_000)
    await bench.running("child", "root", "openhands_b")
    await bench.turn("child", TokenUsage(1, 1), 100)
    summary = await ledger.close_run(RunId("child"), RunState.FINISHED, stop_reason="finished", caps=caps)
    assert summary.remaining_micro_usd == 600
    assert summary.parent == Remainder(runs=49, budget_micro_usd=9_500 - 100)
    assert await ledger.summary(RunId("child"), caps) == summary


async def test_what_a_run_has_cost_is_not_all_while_a_call_of_it_could_not_be_booked(bench: Bench) -> None:
    ledger = bench.store.ledger
    await bench.running("root", budget_micro_usd=1_000)
    hold = await ledger.reserve(RunId("root"), calls_of(200))
    closed = await ledger.close_run(RunId("root"), RunState.FAILED, stop_reason="store_unavailable")
    assert (closed, closed.record.cost_complete, closed.pending) == (await ledger.summary(RunId("root")), False, True)
    await ledger.settle(hold, Charge(TokenUsage(1, 1), 150))
    booked = await ledger.summary(RunId("root"))
    assert booked is not None
    assert (booked.record.cost_self_micro_usd, booked.record.cost_complete, booked.pending) == (150, True, False)


async def test_what_was_spent_is_told_by_key_agent_and_day(bench: Bench) -> None:
    other = replace(bench, key=(await bench.store.keys.create_key("other"))[0])
    await bench.running("one")
    await bench.running("child", "one", "openhands_b")
    await bench.turn("one", TokenUsage(10, 1), 5)
    await bench.turn("child", TokenUsage(20, 2), 7)
    bench.clock.at += 86_400
    await other.running("two", agent="openhands_b")
    await other.turn("two", TokenUsage(30, 3), None)
    lines = bench.store.spending.lines
    assert await lines(SpendBy.KEY) == [
        SpendLine("laptop", 2, 30, 3, 12, complete=True),
        SpendLine("other", 1, 30, 3, 0, complete=False),
    ]
    assert await lines(SpendBy.AGENT) == [
        SpendLine("openhands_b", 2, 50, 5, 7, complete=False),
        SpendLine("openhands_a", 1, 10, 1, 5, complete=True),
    ]
    assert [(line.name, line.cost_micro_usd) for line in await lines(SpendBy.DAY)] == [("2023-11-14", 12), ("2023-11-15", 0)]
    assert [line.name for line in await lines(SpendBy.DAY, since=date(2023, 11, 15))] == ["2023-11-15"]
    assert [line.name for line in await lines(SpendBy.DAY, until=date(2023, 11, 14))] == ["2023-11-14"]
