"""Units that were seen in another variant later, and why what should happen to experiments by itself does not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. What has moved before is not known any more."""
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
    op.add_column(
        "experiments",
        sa.Column(
            "problem", sa.Text, nullable=False, server_default="", comment="why what should happen by itself does not"
        ),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_column("experiments", "problem")
    op.drop_column("arrivals", "moved")
