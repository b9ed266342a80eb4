"""What is kept of a run beside its record: its task, its workspace, its events."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "journals",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("task", sa.LargeBinary, nullable=False),
        sa.Column("task_is_truncated", sa.Boolean, nullable=False),
        sa.Column("workspace_dir", sa.Text),
        sa.Column("events", sa.LargeBinary),
        sa.PrimaryKeyConstraint("run_id", name="pk_journals"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_journals_run_id", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("journals")
