"""Keys, runs, holds and conversations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("max_depth", sa.Integer),
        sa.Column("max_breadth", sa.Integer),
        sa.Column("max_runs", sa.Integer),
        sa.Column("timeout_s", sa.Double),
        sa.Column("max_turns", sa.Integer),
        sa.Column("budget_micro_usd", sa.BigInteger),
        sa.Column("allowed_agents", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
        sa.Column("spent_micro_usd", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.CheckConstraint("spent_micro_usd >= 0", name=op.f("ck_keys_spent")),
    )
    live = sa.text("revoked_at IS NULL")
    op.create_index("uq_keys_live_name", "keys", ["name"], unique=True, sqlite_where=live, postgresql_where=live)

    op.create_table(
        "runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tree_id", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Text),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("max_depth", sa.Integer, nullable=False),
        sa.Column("max_breadth", sa.Integer, nullable=False),
        sa.Column("max_runs", sa.Integer, nullable=False),
        sa.Column("timeout_s", sa.Double, nullable=False),
        sa.Column("max_turns", sa.Integer, nullable=False),
        sa.Column("budget_micro_usd", sa.BigInteger),
        sa.Column("allowed_agents", sa.Text),
        sa.Column("deadline_at", sa.Double, nullable=False),
        sa.Column("task_hash", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("turns", sa.Integer, nullable=False, server_default="0"),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cost_self_micro_usd", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cost_tree_micro_usd", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cost_complete", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("descendants", sa.Integer, nullable=False, server_default="0"),
        sa.Column("stop_reason", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["parent_id"], ["runs.id"], name="fk_runs_parent_id"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_runs_key_id"),
        sa.CheckConstraint("cost_self_micro_usd >= 0 AND cost_tree_micro_usd >= cost_self_micro_usd", name=op.f("ck_runs_cost")),
        sa.CheckConstraint("descendants BETWEEN 0 AND max_runs", name=op.f("ck_runs_descendants")),
    )
    op.create_index("ix_runs_parent_id", "runs", ["parent_id"])
    root = sa.text("parent_id IS NULL")
    op.create_index("ix_runs_roots", "runs", ["created_at"], sqlite_where=root, postgresql_where=root)

    op.create_table(
        "holds",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("reserved_micro_usd", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_holds_run_id"),
    )

    op.create_table(
        "conversations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("used_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("workspace_dir", sa.Text),
        sa.Column("transcript", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.ForeignKeyConstraint(["owner"], ["keys.id"], name="fk_conversations_owner"),
    )
    op.create_index("ix_conversations_expires_at", "conversations", ["expires_at"])


def downgrade() -> None:
    for table in ("conversations", "holds", "runs", "keys"):
        op.drop_table(table)
