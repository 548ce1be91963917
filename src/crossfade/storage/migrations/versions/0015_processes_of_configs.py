"""Processes report by which revision they answer readers of configs that a rollout moves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add where that is kept."""
    comment = "JSON: name -> revision that readers get"
    op.add_column("processes", sa.Column("configs", sa.Text, nullable=False, server_default="{}", comment=comment))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("processes", "configs")
