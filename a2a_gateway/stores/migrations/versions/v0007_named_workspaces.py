"""Directories that callers name as workspaces: those that a key may name, and that of a conversation."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("workspaces", sa.Text))
    op.add_column("conversations", sa.Column("named_dir", sa.Text))


def downgrade() -> None:
    op.drop_column("conversations", "named_dir")
    op.drop_column("keys", "workspaces")
