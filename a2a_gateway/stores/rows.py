"""Convert rows to records and back: the only module that maps columns to fields."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from a2a_gateway.runs.key_limits import RequestLimits
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import (
    Conversation,
    ConversationId,
    KeyId,
    KeyRecord,
    RunId,
    RunRecord,
    RunState,
    SpendCaps,
    TokenUsage,
    TreeId,
)
from delegate_tool.protocol.limits import BUDGET, LIMITS, LimitPolicy, limit_values

type AnyRow = Row[tuple[Any, ...]]
"""A row of a table in `schema`. The type checker does not know its columns."""


def run_of(row: AnyRow) -> RunRecord:
    """Read a row of `runs`."""
    return RunRecord(
        id=RunId(row.id),
        tree_id=TreeId(row.tree_id),
        parent_id=row.parent_id,
        key_id=KeyId(row.key_id),
        agent=row.agent,
        depth=row.depth,
        state=RunState(row.state),
        limits=Limits(*limit_values(row)),
        deadline_at=row.deadline_at,
        task_hash=row.task_hash,
        conversation_id=ConversationId(row.conversation_id),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        turns=row.turns,
        usage=TokenUsage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens),
        cost_self_micro_usd=row.cost_self_micro_usd,
        cost_tree_micro_usd=row.cost_tree_micro_usd,
        # An open hold of a run that has ended is a call that could not be settled yet.
        cost_complete=row.unknown_charges == 0 and (row.ended_at is None or row.reserved_micro_usd == 0),
        descendants=row.descendants,
        stop_reason=row.stop_reason,
        error_code=row.error_code,
        reserved_micro_usd=row.reserved_micro_usd,
        remote_run_id=row.remote_run_id,
        origin=row.origin,
    )


def values_of_new_run(run: RunRecord) -> dict[str, object]:
    """Return the columns of a new run; the other columns have defaults."""
    return {
        "id": run.id,
        "tree_id": run.tree_id,
        "parent_id": run.parent_id,
        "key_id": run.key_id,
        "agent": run.agent,
        "depth": run.depth,
        "state": run.state.value,
        "deadline_at": run.deadline_at,
        "task_hash": run.task_hash,
        "conversation_id": run.conversation_id,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "origin": run.origin,
        **{limit.name: getattr(run.limits, limit.name) for limit in LIMITS},
    }


def values_of_policy(policy: LimitPolicy) -> dict[str, object]:
    """Return the columns of the limits of a key's trees; their budget is a cap of the key itself, so it has no column."""
    return {limit.name: getattr(policy, limit.name) for limit in LIMITS if limit is not BUDGET}


def values_of_caps(caps: SpendCaps) -> dict[str, object]:
    """Return the columns of a key's own budgets."""
    return {
        "budget_micro_usd": caps.total_micro_usd,
        "day_budget_micro_usd": caps.day_micro_usd,
        "month_budget_micro_usd": caps.month_micro_usd,
    }


def values_of_request_limits(limits: RequestLimits) -> dict[str, object]:
    """Return the columns of the limits on a key's requests."""
    return {"max_concurrent_runs": limits.max_concurrent_runs, "requests_per_minute": limits.requests_per_minute}


def key_of(row: AnyRow) -> KeyRecord:
    """Read a row of `keys`, without the hash of the secret."""
    return KeyRecord(
        id=KeyId(row.id),
        name=row.name,
        # A key's column for the budget holds that of all its trees together, which is not a limit of one.
        policy=replace(LimitPolicy(*limit_values(row)), budget_micro_usd=None),
        caps=SpendCaps(row.budget_micro_usd, row.day_budget_micro_usd, row.month_budget_micro_usd),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        spent_micro_usd=row.spent_micro_usd,
        request_limits=RequestLimits(row.max_concurrent_runs, row.requests_per_minute),
        workspaces=row.workspaces,
    )


def conversation_of(row: AnyRow) -> Conversation:
    """Read a row of `conversations`."""
    return Conversation(
        id=ConversationId(row.id),
        owner=KeyId(row.owner),
        agent=row.agent,
        created_at=row.created_at,
        used_at=row.used_at,
        expires_at=row.expires_at,
        workspace_dir=row.workspace_dir,
        transcript=row.transcript,
        named_dir=row.named_dir,
    )


def values_of_conversation(conversation: Conversation) -> dict[str, object]:
    """Return all columns of `conversations`."""
    return {
        "id": conversation.id,
        "owner": conversation.owner,
        "agent": conversation.agent,
        "created_at": conversation.created_at,
        "used_at": conversation.used_at,
        "expires_at": conversation.expires_at,
        "workspace_dir": conversation.workspace_dir,
        "transcript": conversation.transcript,
        "named_dir": conversation.named_dir,
    }
