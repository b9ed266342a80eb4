"""A root run, its key, and short ways to have runs admitted as roots and below it."""

from collections.abc import Sequence
from dataclasses import replace

from a2a_gateway.runs.admission import admit
from a2a_gateway.runs.budget import Account, Spent, accounts_of_caps, accounts_of_path, key_owner
from a2a_gateway.runs.limits import Limits
from a2a_gateway.runs.model import ConversationId, KeyId, KeyRecord, RunId, RunRecord
from a2a_gateway.runs.ports import RunProposal
from delegate_tool.protocol.limits import LimitPolicy
from tests.support.records import make_run_record

NOW = 1_700_000_000.0
KEY = KeyRecord(KeyId("k1"), "laptop", LimitPolicy(), created_at=NOW - 1000)
ROOT = make_run_record(
    "root",
    key_id=KEY.id,
    agent="openhands_lead",
    deadline_at=NOW + 1000,
    task_hash="build it",
    conversation_id=ConversationId("c-root"),
    created_at=NOW - 800,
)


def proposal(*policies: LimitPolicy, parent: RunRecord | None = ROOT, **changes: object) -> RunProposal:
    made = RunProposal(
        id=RunId("new"),
        parent_id=parent.id if parent else None,
        key_id=KEY.id,
        agent="openhands_coder",
        task_hash="write it",
        conversation_id=ConversationId("c-new"),
        defaults=Limits(),
        policies=policies,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of RunProposal


def accounts(ancestors: Sequence[RunRecord], key: KeyRecord) -> list[Account]:
    of_key = accounts_of_caps(key_owner(key), key.caps, Spent(key.spent_micro_usd))
    return accounts_of_path(ancestors, below=True) + of_key


def admit_below(ancestors: Sequence[RunRecord], made: RunProposal, *, key: KeyRecord = KEY, live_siblings: int = 0) -> RunRecord:
    return admit(made, ancestors=ancestors, live_siblings=live_siblings, key=key, accounts=accounts(ancestors, key), now=NOW)


def admit_child(
    *policies: LimitPolicy, parent: RunRecord = ROOT, key: KeyRecord = KEY, live_siblings: int = 0, **changes: object
) -> RunRecord:
    return admit_below([parent], proposal(*policies, parent=parent, **changes), key=key, live_siblings=live_siblings)


def admit_root(*policies: LimitPolicy, key: KeyRecord = KEY, **changes: object) -> RunRecord:
    return admit_below([], proposal(*policies, parent=None, **changes), key=key)
