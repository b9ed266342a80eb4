"""Reservations, spending caps, idempotency claims with their answers, grants of peers."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("day_budget_micro_usd", sa.BigInteger))
    op.add_column("keys", sa.Column("month_budget_micro_usd", sa.BigInteger))

    op.add_column("runs", sa.Column("reserved_micro_usd", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("unknown_charges", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("had_last_call", sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.add_column("runs", sa.Column("remote_run_id", sa.Text))
    op.add_column("runs", sa.Column("origin", sa.Text))
    op.execute("UPDATE runs SET unknown_charges = 1 WHERE NOT cost_complete")
    op.drop_column("runs", "cost_complete")
    foreign = sa.text("origin IS NOT NULL")
    op.create_index("ix_runs_origin", "runs", ["key_id", "origin"], sqlite_where=foreign, postgresql_where=foreign)

    # What is in it belongs to runs of a gateway that has been stopped: opening the store, its successor would end them anyway.
    op.execute(
        "WITH RECURSIVE held(id, parent_id) AS ("
        " SELECT id, parent_id FROM runs WHERE id IN (SELECT run_id FROM holds)"
        " UNION SELECT above.id, above.parent_id FROM runs AS above JOIN held ON above.id = held.parent_id"
        ") UPDATE runs SET unknown_charges = 1 WHERE id IN (SELECT id FROM held)"
    )
    op.drop_table("holds")
    op.create_table(
        "holds",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_holds_run_id"),
    )

    op.create_table(
        "spend",
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("unknown_charges", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("day", "key_id", "agent", name="pk_spend"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_spend_key_id"),
        sa.CheckConstraint("cost_micro_usd >= 0", name=op.f("ck_spend_cost")),
    )
    op.create_index("ix_spend_key_id", "spend", ["key_id", "day"])
    op.create_index("ix_spend_agent", "spend", ["agent", "day"])
    _bill_earlier_runs()

    op.create_table(
        "claims",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name="pk_claims"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_claims_run_id"),
    )
    op.create_index("ix_claims_expires_at", "claims", ["expires_at"])

    op.create_table(
        "answers",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_answers"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_answers_run_id"),
    )
    op.create_index("ix_answers_expires_at", "answers", ["expires_at"])

    op.create_table(
        "grants",
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("jti", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "jti", name="pk_grants"),
    )
    op.create_index("ix_grants_expires_at", "grants", ["expires_at"])


def _bill_earlier_runs() -> None:
    """Take what was spent up to now from the runs: the budgets of keys are reckoned from `spend` from now on."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    day = "date(created_at, 'unixepoch')" if is_sqlite else "CAST(to_timestamp(created_at) AT TIME ZONE 'UTC' AS date)"
    spender: list[sa.ColumnElement[Any]] = [sa.literal_column(day), sa.column("key_id"), sa.column("agent")]
    used = ("turns", "prompt_tokens", "completion_tokens", "cost_self_micro_usd", "unknown_charges")
    bills = sa.select(*spender, *(sa.func.sum(sa.column(name)) for name in used)).select_from(sa.table("runs")).group_by(*spender)
    names = ["day", "key_id", "agent", "calls", "prompt_tokens", "completion_tokens", "cost_micro_usd", "unknown_charges"]
    op.execute(sa.insert(sa.table("spend", *map(sa.column, names))).from_select(names, bills))


def downgrade() -> None:
    for table in ("grants", "answers", "claims", "spend", "holds"):
        op.drop_table(table)
    op.create_table(
        "holds",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_holds_run_id"),
    )
    op.drop_index("ix_runs_origin", "runs")
    op.add_column("runs", sa.Column("cost_complete", sa.Boolean, nullable=False, server_default=sa.text("true")))
    op.execute("UPDATE runs SET cost_complete = false WHERE unknown_charges > 0")
    for column in ("origin", "remote_run_id", "had_last_call", "unknown_charges", "reserved_micro_usd"):
        op.drop_column("runs", column)
    for column in ("month_budget_micro_usd", "day_budget_micro_usd"):
        op.drop_column("keys", column)
