"""The ledger: raw events, how far each journal has been shipped, and what is missing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "exposures",
        sa.Column("id", sa.String(64), nullable=False, comment="of the decision; sorts by time"),
        sa.Column("at_us", sa.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="of the allocation"),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("latency_seconds", sa.Double, nullable=False),
        sa.Column("error", sa.Boolean, nullable=False),
        sa.Column("fallback", sa.Boolean, nullable=False),
        sa.Column("dimensions", sa.Text, nullable=False, comment="JSON object"),
        sa.Column("context", sa.Text, nullable=False, comment="JSON object"),
        sa.Column("shadows", sa.Text, nullable=False, comment="JSON array of arrays"),
        sa.PrimaryKeyConstraint("id"),
        comment="raw events, kept for `ledger.retention_days`",
    )
    op.create_index("exposures_by_experiment", "exposures", ["experiment", "id"])
    op.create_table(
        "outcomes",
        sa.Column("id", sa.String(64), nullable=False, comment="chosen by whoever reported it"),
        sa.Column("at_us", sa.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("decision", sa.String(64), nullable=False, comment="id of the exposure, or empty"),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="raw events, kept for `ledger.retention_days`",
    )
    op.create_index("outcomes_by_decision", "outcomes", ["decision"])
    op.create_index("outcomes_by_experiment", "outcomes", ["experiment"])
    op.create_table(
        "ledger_journals",
        sa.Column("journal", sa.String(64), nullable=False),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False, comment="bytes of the segment that are in the tables"),
        sa.Column("frames", sa.BigInteger, nullable=False, comment="number of the last frame before it"),
        sa.Column("finished", sa.Boolean, nullable=False, comment="nothing more will come"),
        sa.Column("seen_us", sa.BigInteger, nullable=False, comment="when whoever writes or reads it was there last"),
        sa.PrimaryKeyConstraint("journal"),
        comment="how far the journal of each process has been shipped, in the same transaction as its events",
    )
    op.create_table(
        "ledger_gaps",
        sa.Column("experiment", sa.String(64), nullable=False, comment="empty = any that ran between the two times"),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("journal", sa.String(64), nullable=False, comment="where they are missing"),
        sa.Column("count", sa.BigInteger, comment="events; null = nobody can know how many"),
        sa.Column("first_us", sa.BigInteger, nullable=False, comment="no event before it is missing"),
        sa.Column("last_us", sa.BigInteger, nullable=False, comment="no event after it is missing"),
        sa.PrimaryKeyConstraint("experiment", "reason", "journal"),
        comment="events that there have been and that are not in the tables; with a gap nothing is decided by itself",
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("ledger_gaps")
    op.drop_table("ledger_journals")
    op.drop_table("outcomes")
    op.drop_table("exposures")
