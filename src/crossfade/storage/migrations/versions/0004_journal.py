"""STAND-IN for the journal's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what the journal's own migration will."""
    op.create_table(
        "exposures",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("latency_seconds", sa.Float, nullable=False),
        sa.Column("error", sa.Boolean, nullable=False),
        sa.Column("fallback", sa.Boolean, nullable=False),
        sa.Column("dimensions", sa.Text, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("shadows", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("exposures_by_unit", "exposures", ["experiment", "unit"])
    op.create_table(
        "outcomes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("decision", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outcomes_by_decision", "outcomes", ["decision"])
    op.create_index("outcomes_by_unit", "outcomes", ["experiment", "unit"])
    op.create_table(
        "ledger_gaps",
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("experiment", "reason"),
    )


def downgrade() -> None:
    """Drop all of them."""
    for name in ("ledger_gaps", "outcomes", "exposures"):
        op.drop_table(name)
