"""Units that came and were seen in another variant later: they count when arrivals are compared with weights."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What has moved before is not known any more."""
    op.add_column(
        "arrivals",
        sa.Column(
            "moved",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="others, that were seen in another variant later",
        ),
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("arrivals", "moved")
