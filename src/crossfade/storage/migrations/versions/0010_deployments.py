"""Deployments, and what serving processes say of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty, and the column."""
    op.create_table(
        "deployments",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column(
            "number", sa.BigInteger, nullable=False, comment="revision of its creation: the order of deployments"
        ),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False, comment="grows whenever something else shall run"),
        sa.Column("spec", sa.Text, nullable=False, comment="canonical JSON: what shall run"),
        sa.Column("previous", sa.Text, comment="what ran before, while it may be gone back to"),
        sa.Column("failure", sa.Text, comment="JSON: what was gone back from last, when and why"),
        sa.Column("reason", sa.Text, nullable=False, server_default="", comment="of the newest change"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("changed_at", sa.String(27), nullable=False, comment="when this generation began"),
        sa.Column("changed_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="how versions run",
    )
    op.create_index("deployments_by_number", "deployments", ["number"], unique=True)
    op.create_index("deployments_by_model", "deployments", ["model", "number"])
    op.create_index("deployments_by_status", "deployments", ["status", "number"])
    op.add_column(
        "processes",
        sa.Column("deployments", sa.Text, nullable=False, server_default="[]", comment="JSON: `DeploymentReport`s"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_column("processes", "deployments")
    op.drop_table("deployments")
