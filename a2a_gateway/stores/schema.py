"""The tables. Migrations bring a database to this schema; a test compares the two.

Only types that SQLite and PostgreSQL share are used. Money is integer micro-USD, instants are seconds since the epoch. Invariants
that must hold whatever the code does are constraints here.
"""

import json
import zlib

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

from delegate_tool.protocol.limits import LIMITS
from delegate_tool.protocol.values import AGENTS, COUNT, COUNT_FROM_ZERO, MONEY, SECONDS


class AgentSet(TypeDecorator[frozenset[str]]):
    """A set of model ids as a JSON list. NULL allows every agent, the empty list allows no agent."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(sorted(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[str] | None:
        return None if value is None else frozenset(json.loads(value))


class PathList(TypeDecorator[tuple[str, ...]]):
    """Paths as a JSON list. NULL is the empty list."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        return json.dumps(value) if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...]:
        return () if value is None else tuple(json.loads(value))


class CompressedText(TypeDecorator[str]):
    """Long text, compressed with zlib. Even at the fastest level a transcript shrinks to about a fifth."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else zlib.compress(value.encode("utf-8", "surrogatepass"), level=1)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else zlib.decompress(value).decode("utf-8", "surrogatepass")


_LIMIT_TYPES = {COUNT: Integer, COUNT_FROM_ZERO: Integer, SECONDS: Double, MONEY: BigInteger, AGENTS: AgentSet}

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    *(Column(limit.name, _LIMIT_TYPES[limit.codec]) for limit in LIMITS),  # `budget_micro_usd` is that of all its trees together
    Column("day_budget_micro_usd", BigInteger),
    Column("month_budget_micro_usd", BigInteger),
    Column("max_concurrent_runs", Integer),
    Column("requests_per_minute", Integer),
    Column("workspaces", PathList),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    Column("spent_micro_usd", BigInteger, nullable=False, default=0, server_default="0"),
    CheckConstraint("spent_micro_usd >= 0", name="spent"),
)
Index(
    "uq_keys_live_name",
    keys.c.name,
    unique=True,
    sqlite_where=keys.c.revoked_at.is_(None),
    postgresql_where=keys.c.revoked_at.is_(None),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tree_id", Text, nullable=False),
    Column("parent_id", Text, ForeignKey("runs.id"), index=True),
    Column("key_id", Text, ForeignKey("keys.id"), nullable=False),
    Column("agent", Text, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("state", Text, nullable=False),
    *(Column(limit.name, _LIMIT_TYPES[limit.codec], nullable=not limit.is_always_set) for limit in LIMITS),
    Column("deadline_at", Double, nullable=False),
    Column("task_hash", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("turns", Integer, nullable=False, default=0, server_default="0"),
    Column("prompt_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("completion_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("cached_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("reasoning_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("cost_self_micro_usd", BigInteger, nullable=False, default=0, server_default="0"),
    Column("cost_tree_micro_usd", BigInteger, nullable=False, default=0, server_default="0"),
    # How many charges of this run and of the runs below it are estimates or have an unknown price. Reconciliation subtracts one.
    Column("unknown_charges", Integer, nullable=False, default=0, server_default="0"),
    # The sum of the open holds of this run and of the runs below it.
    Column("reserved_micro_usd", BigInteger, nullable=False, default=0, server_default="0"),
    Column("had_last_call", Boolean, nullable=False, default=False, server_default=text("false")),
    Column("descendants", Integer, nullable=False, default=0, server_default="0"),
    Column("stop_reason", Text),
    Column("error_code", Text),
    Column("remote_run_id", Text),
    Column("origin", Text),
    CheckConstraint("cost_self_micro_usd >= 0 AND cost_tree_micro_usd >= cost_self_micro_usd", name="cost"),
    CheckConstraint("descendants BETWEEN 0 AND max_runs", name="descendants"),
)
Index(
    "ix_runs_roots",
    runs.c.key_id,
    runs.c.created_at,
    sqlite_where=runs.c.parent_id.is_(None),
    postgresql_where=runs.c.parent_id.is_(None),
)

Index(
    "ix_runs_origin",
    runs.c.key_id,
    runs.c.origin,
    sqlite_where=runs.c.origin.is_not(None),
    postgresql_where=runs.c.origin.is_not(None),
)

# Money of calls: `open` while the call is under way, `presumed` while an estimate is charged until the final cost is known; see
# `charges`. Settling a hold removes it, so that it is charged once. `reserved_micro_usd` is what an open hold reserves, or what a
# presumed hold was charged. `presumed_micro_usd` is what a crash would charge now.
holds = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("key_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reserved_micro_usd", BigInteger, nullable=False),
    Column("presumed_micro_usd", BigInteger, nullable=False, default=0, server_default="0"),
    Column("created_at", Double, nullable=False),
)

# What each key spent on each agent on each day (UTC). Caps of days and months, and the report of spending, are computed from it.
spend = Table(
    "spend",
    metadata,
    Column("day", Date, primary_key=True),
    Column("key_id", Text, ForeignKey("keys.id"), primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("calls", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_micro_usd", BigInteger, nullable=False),
    Column("unknown_charges", Integer, nullable=False),
    CheckConstraint("cost_micro_usd >= 0", name="cost"),
)
Index("ix_spend_key_id", spend.c.key_id, spend.c.day)
Index("ix_spend_agent", spend.c.agent, spend.c.day)

# Idempotency keys and their runs.
idempotency_keys = Table(
    "claims",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False, index=True),
    Column("expires_at", Double, nullable=False, index=True),
)

# Kept outcomes of runs. Their encoding is that of `runs`; it is opaque here.
answers = Table(
    "answers",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("body", CompressedText, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
)

# What is kept of a run beside its record, and removed with it. The encoding is that of `runs.journal`.
journals = Table(
    "journals",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("task", CompressedText, nullable=False),
    Column("task_is_truncated", Boolean, nullable=False),
    Column("workspace_dir", Text),
    Column("events", CompressedText),
)

# Used grants: each grant opens one run.
grants = Table(
    "grants",
    metadata,
    Column("issuer", Text, primary_key=True),
    Column("jti", Text, primary_key=True),
    Column("expires_at", Double, nullable=False, index=True),
)

# Peers that were added with `a2a-gateway peer add`, with their settings as JSON, without secrets.
peers = Table(
    "peers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("settings", Text, nullable=False),
    Column("added_at", Double, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("keys.id"), nullable=False),
    Column("agent", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("workspace_dir", Text),
    Column("transcript", CompressedText, nullable=False),
    Column("named_dir", Text),
)
