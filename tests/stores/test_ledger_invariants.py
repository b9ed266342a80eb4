"""The ledger against a dictionary: whatever is opened, reserved, settled and closed, in whatever order, the books agree."""

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from a2a_gateway.errors import BudgetHeld, GatewayError
from a2a_gateway.runs.events import AgentCost
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import (
    LIVE_STATES,
    TRANSITIONS,
    CallQuote,
    ConversationId,
    RunId,
    RunRecord,
    RunState,
    SpendCaps,
    TokenUsage,
)
from a2a_gateway.runs.ports import Charge, Hold, RunProposal
from a2a_gateway.stores import open_store, sqlite_url
from delegate_tool.protocol.limits import LimitPolicy
from tests.stores.ledger_bench import SteppedClock
from tests.support.postgresql import make_postgresql_database

KEY_BUDGET = 400
root_policies = st.builds(LimitPolicy, max_depth=st.integers(1, 3), max_breadth=st.integers(1, 3), max_runs=st.integers(0, 6))
usages = st.builds(TokenUsage, *[st.integers(0, 50)] * 4)


@dataclass
class ModelRun:
    """What the test believes of a run."""

    opened: RunRecord
    parent: "ModelRun | None"
    state: RunState = RunState.QUEUED
    children: list["ModelRun"] = field(default_factory=list)
    turns: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: int = 0
    unknown: int = 0
    held: int = 0
    had_last_call: bool = False
    overrun: bool = False

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_STATES

    @property
    def path(self) -> list["ModelRun"]:
        return [*(self.parent.path if self.parent else []), self]

    @property
    def below(self) -> list["ModelRun"]:
        return [run for child in self.children for run in (child, *child.below)]

    @property
    def tree_cost(self) -> int:
        return self.cost + sum(run.cost for run in self.below)

    @property
    def tree_held(self) -> int:
        return self.held + sum(run.held for run in self.below)

    @property
    def cap(self) -> int:
        assert self.opened.limits.budget_micro_usd is not None
        return self.opened.limits.budget_micro_usd

    @property
    def kept_back(self) -> int:
        return self.cap * 5 // 100

    def is_spent(self) -> bool:
        return self.tree_cost >= self.cap


@dataclass(eq=False)
class ModelHold:
    """What the test believes of a hold: `open`, `presumed` or `settled`; and what a crash would charge for it, or has charged."""

    hold: Hold
    presumed: int
    state: str = "open"


class LedgerAgainstADictionary(RuleBasedStateMachine):
    runs = Bundle("runs")
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = SteppedClock()
        self.folder = tempfile.TemporaryDirectory()
        self.url = self.database_url()
        self.store = self.wait_for(self.stack.enter_async_context(open_store(self.url, self.clock)))
        self.key, _ = self.wait_for(self.store.keys.create_key("laptop", caps=SpendCaps(day_micro_usd=KEY_BUDGET)))
        self.model: dict[RunId, ModelRun] = {}
        self.all_holds: list[ModelHold] = []
        self.ids = (RunId(f"run-{number}") for number in itertools.count())

    def database_url(self) -> str:
        return sqlite_url(Path(self.folder.name) / "gateway.db")

    def wait_for[T](self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run(work)

    def teardown(self) -> None:
        self.wait_for(self.stack.aclose())
        self.loop.close()
        self.folder.cleanup()

    @property
    def spent(self) -> int:
        return sum(run.cost for run in self.model.values())

    @property
    def held(self) -> int:
        return sum(run.held for run in self.model.values())

    def open(self, parent: ModelRun | None, agent: str, policy: LimitPolicy) -> ModelRun:
        proposal = RunProposal(
            id=next(self.ids),
            parent_id=parent.opened.id if parent else None,
            key_id=self.key.id,
            agent=agent,
            task_hash="the one task",
            conversation_id=ConversationId("c"),
            defaults=Limits(timeout_s=100.0, budget_micro_usd=300),
            policies=(policy,),
        )
        run = ModelRun(self.wait_for(self.store.ledger.open_run(proposal)), parent)
        self.model[run.opened.id] = run
        if parent:
            parent.children.append(run)
        return run

    def refusals_of_child(self, parent: ModelRun, agent: str) -> set[str]:
        """Return every code with which a child of this run may be refused now; without a code it must be admitted."""
        reasons = {
            "run_token_revoked": not all(run.is_live for run in parent.path),
            "delegation_depth_exceeded": parent.opened.depth >= parent.opened.limits.max_depth,
            "delegation_cycle_detected": any(run.opened.agent == agent for run in parent.path),
            "delegation_runs_exhausted": any(len(run.below) >= run.opened.limits.max_runs for run in parent.path),
            "delegation_breadth_exceeded": sum(c.is_live for c in parent.children) >= parent.opened.limits.max_breadth,
            "budget_exceeded": self.spent >= KEY_BUDGET or any(run.tree_cost + run.kept_back >= run.cap for run in parent.path),
            "deadline_exceeded": parent.opened.deadline_at <= self.clock.at,
        }
        return {code for code, holds in reasons.items() if holds}

    @initialize(target=runs, agent=st.sampled_from("ab"), policy=root_policies)
    def open_first_root(self, agent: str, policy: LimitPolicy) -> ModelRun:
        return self.open(None, agent, policy)

    @rule(target=runs, agent=st.sampled_from("ab"), policy=root_policies)
    def open_root(self, agent: str, policy: LimitPolicy) -> object:
        try:
            return self.open(None, agent, policy)
        except GatewayError as error:
            assert (error.code, self.spent >= KEY_BUDGET) == ("budget_exceeded", True)
            return multiple()

    @rule(target=runs, parent=runs, agent=st.sampled_from("abcde"), budget=st.none() | st.integers(1, 200))
    def open_child(self, parent: ModelRun, agent: str, budget: int | None) -> object:
        refusals = self.refusals_of_child(parent, agent)
        try:
            child = self.open(parent, agent, LimitPolicy(budget_micro_usd=budget))
        except GatewayError as error:
            assert error.code in refusals
            return multiple()
        assert not refusals
        assert child.opened.depth == parent.opened.depth + 1
        assert child.opened.deadline_at < parent.opened.deadline_at
        return child

    @rule(run=runs)
    def start(self, run: ModelRun) -> None:
        if run.state is RunState.QUEUED:
            self.wait_for(self.store.ledger.start_run(run.opened.id))
            run.state = RunState.RUNNING

    def remember(self, hold: Hold) -> ModelHold:
        one = ModelHold(hold, hold.presumed_micro_usd)
        self.all_holds.append(one)
        return one

    def room(self, run: ModelRun, *, last: bool, idle: bool) -> int:
        """Calculate from scratch what one more call of a run may cost."""
        rooms = [KEY_BUDGET - self.spent - (0 if idle else self.held)]
        for one in run.path:
            kept_back = 0 if last and one is run else one.kept_back
            rooms.append(one.cap - one.tree_cost - kept_back - (0 if idle else one.tree_held))
        return min(rooms)

    def verdict(self, run: ModelRun, amount: int) -> tuple[str, bool]:
        """Return how a call of this cost must be answered, and whether it is the run's last."""
        if not all(one.is_live for one in run.path):
            return "run_cancelled", False
        if run.opened.deadline_at <= self.clock.at:
            return "deadline_exceeded", False
        for last in (False,) if run.had_last_call else (False, True):
            if amount <= self.room(run, last=last, idle=False):
                return "granted", last
            if amount <= self.room(run, last=last, idle=True):
                return "held", False
        return "budget_exceeded", False

    @rule(target=holds, run=runs, amount=st.integers(0, 120), sent=st.none() | st.integers(0, 60))
    def reserve(self, run: ModelRun, amount: int, sent: int | None) -> object:
        expected = self.verdict(run, amount)
        quote = CallQuote(amount, 0, Decimal("0.000001"), Decimal(0), sent)
        try:
            hold = self.wait_for(self.store.ledger.reserve(run.opened.id, quote))
        except GatewayError as error:
            assert ("held" if isinstance(error, BudgetHeld) else error.code, False) == expected
            return multiple()
        assert (("granted", hold.last), hold.reserved_micro_usd) == (expected, amount)
        assert hold.presumed_micro_usd == (amount if sent is None else min(sent, amount))
        run.held += amount
        run.had_last_call |= hold.last
        return self.remember(hold)

    @rule(target=holds, run=runs)
    def escrow(self, run: ModelRun) -> object:
        expected = self.verdict(run, 1)[0]
        try:
            hold = self.wait_for(self.store.ledger.escrow(run.opened.id))
        except GatewayError as error:
            assert error.code == "budget_exceeded" if expected in ("held", "granted") else error.code == expected
            assert expected != "granted" or run.had_last_call or self.room(run, last=True, idle=False) < 1
            return multiple()
        assert hold.presumed_micro_usd == hold.reserved_micro_usd == self.room(run, last=True, idle=False)
        run.held += hold.reserved_micro_usd
        return self.remember(hold)

    @rule(one=holds, usage=usages, cost=st.none() | st.integers(0, 120), complete=st.booleans(), turns=st.integers(0, 1))
    def settle(self, one: ModelHold, usage: TokenUsage, cost: int | None, complete: bool, turns: int) -> None:
        self.wait_for(self.store.ledger.settle(one.hold, Charge(usage, cost, complete, turns)))
        run, reserved = self.model[one.hold.run_id], one.hold.reserved_micro_usd
        if one.state == "settled":
            return
        if one.state == "presumed":
            run.cost -= one.presumed
            run.unknown -= 1
        else:
            run.held -= reserved
        run.turns += turns
        run.usage += usage
        run.cost += cost or 0
        run.unknown += not complete or (cost is None and usage != TokenUsage())
        if one.hold.last and complete and usage == TokenUsage() and not cost:
            run.had_last_call = False
        for above in run.path:
            above.overrun |= (cost or 0) > reserved
        one.state = "settled"
        self.all_holds.remove(one)

    @rule(used=st.dictionaries(holds, st.integers(0, 200), max_size=4))
    def presume(self, used: dict[ModelHold, int]) -> None:
        self.wait_for(self.store.ledger.presume({one.hold.id: amount for one, amount in used.items()}))
        for one, amount in used.items():
            if one.state == "open":
                one.presumed = min(amount, one.hold.reserved_micro_usd)

    @rule(some=st.lists(st.tuples(runs, st.integers(0, 120), st.booleans()), max_size=8))
    def cancel_storm(self, some: list[tuple[ModelRun, int, bool]]) -> None:
        """Let runs ask for calls all at once, and cancel some of them in the middle."""
        cancelled = {run.opened.id for run, _, is_cancelled in some if is_cancelled}
        asking = [(run, amount) for run, amount, _ in some]

        async def storm() -> list[Hold | BaseException]:
            reserve = self.store.ledger.reserve
            tasks = [
                asyncio.ensure_future(reserve(run.opened.id, CallQuote(amount, 0, Decimal("0.000001"), Decimal(0))))
                for run, amount in asking
            ]
            await asyncio.sleep(0)  # the first is being decided on, the others stand in line
            for task, (run, _) in zip(tasks, asking, strict=True):
                if run.opened.id in cancelled:
                    task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        for (run, amount), outcome in zip(asking, self.wait_for(storm()), strict=True):
            if isinstance(outcome, Hold):
                assert run.opened.id not in cancelled
                assert outcome.reserved_micro_usd == amount
                run.held += amount
                run.had_last_call |= outcome.last
                self.remember(outcome)
            elif run.opened.id in cancelled:
                assert isinstance(outcome, asyncio.CancelledError)
            else:
                assert isinstance(outcome, GatewayError)
                assert outcome.code in ("budget_exceeded", "run_cancelled", "deadline_exceeded")
        for run in [self.model[run_id] for run_id in cancelled]:
            self.close(run, RunState.CANCELLED)

    @rule()
    def crash(self) -> None:
        """Kill the gateway at any point, and start it again."""
        self.wait_for(self.stack.aclose())
        self.stack = AsyncExitStack()
        self.store = self.wait_for(self.stack.enter_async_context(open_store(self.url, self.clock)))
        live = [run for run in self.model.values() if run.is_live]
        assert self.wait_for(self.store.ledger.mark_lost()) == len(live)
        for run in live:
            run.state = RunState.LOST
        for one in self.all_holds:
            if one.state == "open":
                run = self.model[one.hold.run_id]
                run.held -= one.hold.reserved_micro_usd
                run.cost += one.presumed
                run.unknown += 1
                one.state = "presumed"

    @rule(run=runs, choice=st.integers(0, 9))
    def end(self, run: ModelRun, choice: int) -> None:
        ends = sorted(TRANSITIONS[run.state] - LIVE_STATES) or [RunState.FAILED]
        self.close(run, ends[choice % len(ends)])

    def close(self, run: ModelRun, state: RunState) -> None:
        summary = self.wait_for(self.store.ledger.close_run(run.opened.id, state, stop_reason="test"))
        run.state = state if run.is_live else run.state
        assert summary.record.state is run.state

    @rule(seconds=st.floats(0.1, 15))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.at += seconds

    @invariant()
    def the_books_agree(self) -> None:
        for root in [run for run in self.model.values() if run.parent is None]:
            records = self.wait_for(self.store.ledger.subtree(root.opened.id))
            assert {record.id for record in records} == {run.opened.id for run in (root, *root.below)}
            assert sum(record.cost_self_micro_usd for record in records) == records[0].cost_tree_micro_usd
            for record in records:
                self.the_run_agrees(self.model[record.id], record)
        key = self.wait_for(self.store.keys.get_key(self.key.id))
        assert key is not None
        assert key.spent_micro_usd == self.spent

    def the_run_agrees(self, run: ModelRun, record: RunRecord) -> None:
        assert (record.state, record.turns, record.usage) == (run.state, run.turns, run.usage)
        assert (record.cost_self_micro_usd, record.cost_tree_micro_usd) == (run.cost, run.tree_cost)
        assert record.cost_complete == (not any(one.unknown for one in (run, *run.below)) and (run.is_live or not run.tree_held))
        assert record.reserved_micro_usd == run.tree_held
        assert run.overrun or run.tree_cost + run.tree_held <= run.cap
        assert record.descendants == len(run.below) <= run.opened.limits.max_runs

    @rule(run=runs)
    def the_summary_agrees(self, run: ModelRun) -> None:
        summary = self.wait_for(self.store.ledger.summary(run.opened.id))
        assert summary is not None
        agents = sorted({one.opened.agent for one in run.below})
        by_agent = [[one.cost for one in run.below if one.opened.agent == agent] for agent in agents]
        assert summary.by_agent == tuple(
            AgentCost(agent, len(costs), sum(costs)) for agent, costs in zip(agents, by_agent, strict=True)
        )
        assert summary.tree_usage == sum((one.usage for one in run.below), run.usage)
        left = [one.cap - one.tree_cost - one.tree_held for one in run.path]
        assert summary.remaining_micro_usd == max(0, min([*left, KEY_BUDGET - self.spent - self.held]))


class TestLedgerOnSQLite(LedgerAgainstADictionary.TestCase):  # type: ignore[misc, valid-type]  # made by hypothesis
    settings = settings(max_examples=20, stateful_step_count=40, deadline=None)


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest, postgresql: str) -> None:
    request.cls.machine.server = postgresql


class LedgerOnPostgreSQL(LedgerAgainstADictionary):
    server: str

    def database_url(self) -> str:
        return make_postgresql_database(self.server)


@pytest.mark.usefixtures("server")
class TestLedgerOnPostgreSQL(LedgerOnPostgreSQL.TestCase):  # type: ignore[misc, valid-type]  # made by hypothesis
    machine = LedgerOnPostgreSQL
    settings = settings(max_examples=6, stateful_step_count=40, deadline=None)
