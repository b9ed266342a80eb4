"""The latest trees of a key are found by an index: without it all trees ever begun were read for them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROOT = sa.text("parent_id IS NULL")


def upgrade() -> None:
    op.drop_index("ix_runs_roots", "runs")
    op.create_index("ix_runs_roots", "runs", ["key_id", "created_at"], sqlite_where=_ROOT, postgresql_where=_ROOT)


def downgrade() -> None:
    op.drop_index("ix_runs_roots", "runs")
    op.create_index("ix_runs_roots", "runs", ["created_at"], sqlite_where=_ROOT, postgresql_where=_ROOT)
