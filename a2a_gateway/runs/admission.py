"""Decide whether a run may start, and whether it may continue. Pure decisions over records.

The ledger calls `admit` in the transaction that opens a run, and `permit_turn` in the one before each LLM call, and stores the
result. This module has no clock, database or caller: all that it needs is passed in.

Every limit is monotone: a run gets the narrowest of what the server, the key, the runs above it and the request allow, so a
request can narrow a limit and never widen it. `delegate_tool.protocol.limits` has the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from a2a_gateway.errors import (
    AgentNotAllowed,
    AuthenticationError,
    BreadthExceeded,
    BudgetExceeded,
    CycleDetected,
    DeadlineExceeded,
    DepthExceeded,
    RunCancelled,
    RunsExhausted,
    RunTokenRevoked,
)
from a2a_gateway.runs.budget import Account, budget_left, find_exhausted, share, unspent
from a2a_gateway.runs.limits import Limits, narrow
from a2a_gateway.runs.model import LIVE_STATES, KeyRecord, RunRecord, RunState, TreeId
from a2a_gateway.runs.ports import RunProposal
from delegate_tool.protocol.limits import ALLOWED_AGENTS, LimitPolicy
from delegate_tool.protocol.money import format_usd

CHILD_MARGIN: Final = 0.05
"""Share of its remaining time that a parent keeps when it delegates, to process the child's answer."""
CHILD_MARGIN_MAX_S: Final = 10.0
BREADTH_RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Case:
    """One proposal, with what the ledger knows about the runs around it."""

    proposal: RunProposal
    ancestors: Sequence[RunRecord]
    live_siblings: int
    key: KeyRecord
    accounts: Sequence[Account]
    now: float

    @property
    def parent(self) -> RunRecord | None:
        return self.ancestors[-1] if self.ancestors else None

    @property
    def depth(self) -> int:
        real = self.parent.depth + 1 if self.parent else 0
        return max(real, self.proposal.stated_depth or 0)

    @property
    def limits(self) -> Limits:
        """The effective limits: those inherited from the parent or the server, narrowed by each policy."""
        limits = self._inherited_limits()
        left = LimitPolicy(budget_micro_usd=self._budget_above())
        for policy in (left, self.key.policy, *self.proposal.policies):
            limits = narrow(limits, policy)
        return limits

    def _budget_above(self) -> int | None:
        """Return what the budgets above leave to the run: all unspent money, which it shares with its siblings.

        For a run on a peer its whole budget is reserved at once. So without an explicit budget it gets an equal share with the
        children that its parent may still open, and with the work on this gateway.
        """
        is_asked = any(policy.budget_micro_usd is not None for policy in self.proposal.policies)
        if self.parent is None or is_asked or not self.proposal.on_peer:
            return unspent(self.accounts)
        yet_to_come = max(1, self.parent.limits.max_breadth - self.live_siblings)
        return share(self.accounts, yet_to_come + 1) or unspent(self.accounts)

    def _inherited_limits(self) -> Limits:
        if self.parent is None:
            return self.proposal.defaults
        return replace(
            self.parent.limits,
            max_runs=max(0, runs_left(self.ancestors) - 1),
            timeout_s=_child_timeout_s(self.parent.deadline_at - self.now),
        )

    def facts(self) -> dict[str, object]:
        """Return the details of a refusal."""
        limits, left = self.limits, budget_left(self.accounts)
        facts: dict[str, object] = {
            "depth": self.depth,
            "max_depth": limits.max_depth,
            "runs_left": runs_left(self.ancestors) if self.parent else limits.max_runs,
        }
        if left is not None:
            facts["budget_remaining_usd"] = format_usd(left)
        if self.parent is not None:
            facts |= {"run_id": self.parent.id, "tree_id": self.parent.tree_id}
        return facts


def admit(
    proposal: RunProposal,
    *,
    ancestors: Sequence[RunRecord],
    live_siblings: int,
    key: KeyRecord,
    accounts: Sequence[Account],
    now: float,
) -> RunRecord:
    """Decide whether a run may start, and return its record with its effective limits.

    Args:
        ancestors: from the root to the parent; empty for a root.
        live_siblings: live children of the parent.
        accounts: the budgets on which the run would draw, beside its own.
        now: seconds since the epoch.

    Raises:
        AuthenticationError: the key was revoked; `RunTokenRevoked` when the parent or a run above it has ended.
        AdmissionError: a limit refuses the run.
        DeadlineExceeded: no time is left for it.
    """
    case = _Case(proposal, ancestors, live_siblings, key, accounts, now)
    for check in (
        _check_credential,
        _check_depth,
        _check_agent,
        _check_cycle,
        _check_runs,
        _check_budget,
        _check_time,
        _check_breadth,
    ):
        check(case)
    limits = case.limits
    return RunRecord(
        id=proposal.id,
        tree_id=case.parent.tree_id if case.parent else TreeId(proposal.id),
        parent_id=proposal.parent_id,
        key_id=key.id,
        agent=proposal.agent,
        depth=case.depth,
        state=RunState.RUNNING if proposal.starts else RunState.QUEUED,
        limits=limits,
        deadline_at=now + limits.timeout_s,
        task_hash=proposal.task_hash,
        conversation_id=proposal.conversation_id,
        created_at=now,
        started_at=now if proposal.starts else None,
        origin=None if proposal.grant is None else f"{proposal.grant.issuer}/{proposal.grant.run_id}",
    )


def permit_turn(path: Sequence[RunRecord], *, key: KeyRecord, now: float) -> None:
    """Decide whether a run may make one more LLM call; `budget.allot` decides what the call may cost.

    Args:
        path: from the root to the run itself.

    Raises:
        RunCancelled: the run, or one above it, has ended, or its key was revoked.
        DeadlineExceeded: its deadline has passed.
    """
    run = path[-1]
    facts: dict[str, object] = {"run_id": run.id, "tree_id": run.tree_id}
    if (ended := _first_ended(path)) is not None:
        raise RunCancelled(f"Run {ended.id} is {ended.state}; nothing at or below it may continue.", details=facts)
    if key.revoked_at is not None:
        raise RunCancelled(f"The key {key.name!r} behind this run was revoked.", details=facts)
    if run.deadline_at <= now:
        raise DeadlineExceeded(
            f"The run's time of {run.limits.timeout_s:g} s is over. Ask for more time or less work.", details=facts
        )


def runs_left(path: Sequence[RunRecord]) -> int:
    """Return how many more runs may ever be opened below the last run of a path that begins at the root."""
    return max(0, min(run.limits.max_runs - run.descendants for run in path))


def _first_ended(path: Sequence[RunRecord]) -> RunRecord | None:
    # An ancestor's end is recorded before its descendants are cancelled, so the state of the run alone is not enough.
    return next((run for run in path if run.state not in LIVE_STATES), None)


def _check_credential(case: _Case) -> None:
    if case.key.revoked_at is not None:
        raise AuthenticationError(f"The key {case.key.name!r} was revoked. Use another one.")
    if (ended := _first_ended(case.ancestors)) is not None:
        raise RunTokenRevoked(
            f"Run {ended.id} is {ended.state}; its token, and those of the runs below it, open no more runs.",
            details=case.facts(),
        )


def _check_depth(case: _Case) -> None:
    if case.depth > case.limits.max_depth:
        raise DepthExceeded(
            f"The run would be at depth {case.depth}; the greatest depth allowed here is {case.limits.max_depth}. "
            "Do the task without delegating it.",
            details=case.facts(),
        )


def _check_agent(case: _Case) -> None:
    above = case.parent.limits.allowed_agents if case.parent else case.proposal.defaults.allowed_agents
    allowed = ALLOWED_AGENTS.narrow(above, case.key.policy.allowed_agents)
    if allowed is not None and case.proposal.agent not in allowed:
        names = ", ".join(sorted(allowed)) or "none"
        raise AgentNotAllowed(
            f"{case.proposal.agent} may not be called here. Allowed: {names}.", param="model", details=case.facts()
        )


def _check_cycle(case: _Case) -> None:
    for run in case.ancestors:
        if (run.agent, run.task_hash) == (case.proposal.agent, case.proposal.task_hash):
            raise CycleDetected(
                f"{run.agent} already works on this same task at depth {run.depth} (run {run.id}). "
                "Do it yourself, or delegate a smaller part of it.",
                details=case.facts(),
            )
    if case.proposal.task_hash in case.proposal.trail:
        raise CycleDetected(
            f"{case.proposal.agent} already works on this same task further up, beyond another gateway. "
            "Do it yourself, or delegate a smaller part of it.",
            details=case.facts(),
        )


def _check_runs(case: _Case) -> None:
    for run in case.ancestors:
        if run.descendants >= run.limits.max_runs:
            raise RunsExhausted(
                f"{run.descendants} runs were opened below run {run.id}, and {run.limits.max_runs} is its limit. "
                "Go on without further delegation.",
                details=case.facts(),
            )


def _check_budget(case: _Case) -> None:
    if (account := find_exhausted(case.accounts)) is not None:
        raise BudgetExceeded(account.refusal(), details=case.facts())
    if case.limits.budget_micro_usd == 0:
        raise BudgetExceeded("A budget of 0 USD allows no LLM call. Ask for a larger one.", details=case.facts())


def _check_time(case: _Case) -> None:
    if case.limits.timeout_s <= 0:
        raise DeadlineExceeded(
            "No time is left for this run: the run above it has reached its deadline. Finish with what there is.",
            details=case.facts(),
        )


def _check_breadth(case: _Case) -> None:
    if case.parent is not None and case.live_siblings >= case.parent.limits.max_breadth:
        raise BreadthExceeded(
            f"Run {case.parent.id} has {case.live_siblings} live children, and {case.parent.limits.max_breadth} is its limit. "
            "Wait until one of them has ended.",
            details=case.facts(),
            retry_after_s=BREADTH_RETRY_AFTER_S,
        )


def _child_timeout_s(remainder_s: float) -> float:
    return max(0.0, remainder_s - min(remainder_s * CHILD_MARGIN, CHILD_MARGIN_MAX_S))
