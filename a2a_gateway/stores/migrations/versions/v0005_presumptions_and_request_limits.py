"""What a call is charged after a crash, limits of a key's requests, and an index by which old runs are removed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("holds", sa.Column("presumed_micro_usd", sa.BigInteger, nullable=False, server_default="0"))
    # Of calls that an older release made nothing is known but what was set aside for them.
    op.execute("UPDATE holds SET presumed_micro_usd = reserved_micro_usd")
    op.add_column("keys", sa.Column("max_concurrent_runs", sa.Integer))
    op.add_column("keys", sa.Column("requests_per_minute", sa.Integer))
    op.create_index("ix_claims_run_id", "claims", ["run_id"])


def downgrade() -> None:
    op.drop_index("ix_claims_run_id", "claims")
    op.drop_column("keys", "requests_per_minute")
    op.drop_column("keys", "max_concurrent_runs")
    op.drop_column("holds", "presumed_micro_usd")
