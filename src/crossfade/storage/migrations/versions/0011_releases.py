"""How versions do, by the second, and releases of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "health",
        sa.Column("tier", sa.Integer, nullable=False, comment="seconds that a report is about"),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False, comment="until when it counts, microseconds since 1970, UTC"),
        sa.Column("process", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False, comment="MessagePack: version -> `Counts`"),
        sa.PrimaryKeyConstraint("tier", "model", "at_us", "process"),
        comment="what versions did in each process, for minutes to days",
    )
    op.create_index("health_by_time", "health", ["tier", "at_us"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("health")
