"""Experiments, the layers that they share units in, and leases of what only one process may do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column(
            "number", sa.BigInteger, nullable=False, comment="revision of its creation: the order of experiments"
        ),
        sa.Column(
            "model",
            sa.String(64),
            nullable=False,
            server_default="",
            comment="whose traffic it takes; empty = a flag",
        ),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("spec", sa.Text, nullable=False, comment="canonical JSON, as it was asked"),
        sa.Column("routing", sa.Text, comment="what serving knows about it; null = it has not started"),
        sa.Column("learned", sa.Text, comment="state of a bandit's policy"),
        sa.Column("reason", sa.Text, nullable=False, server_default="", comment="of the newest change of the status"),
        sa.Column("decision", sa.Text, comment="JSON: what was decided at its end, and why"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("started_at", sa.String(27)),
        sa.Column("finished_at", sa.String(27)),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("experiments_by_number", "experiments", ["number"], unique=True)
    op.create_index("experiments_by_model", "experiments", ["model", "number"])
    op.create_index("experiments_by_status", "experiments", ["status", "number"])
    op.create_table(
        "layers",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="revision of its creation: the order of layers"),
        sa.Column("body", sa.Text, nullable=False, comment="JSON: which of its slots belong to which experiment"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("layers_by_number", "layers", ["number"], unique=True)
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every new holder; fences older ones off"),
        sa.Column("expires_at", sa.String(27), nullable=False, comment="when another process may take it"),
        sa.PrimaryKeyConstraint("name"),
        comment="what only one process at a time may do",
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("leases")
    op.drop_table("layers")
    op.drop_table("experiments")
