"""What the response cache needs: since when answers count, and a secret that the processes share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables, empty."""
    op.create_table(
        "cache_generations",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False, comment="empty = every version of the model"),
        sa.Column("generation", sa.BigInteger, nullable=False, comment="revision of the newest invalidation"),
        sa.PrimaryKeyConstraint("model", "semver"),
        comment="answers computed before that revision are not given any more",
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(64), nullable=False, comment="32 random bytes, hexadecimal"),
        sa.PrimaryKeyConstraint("name"),
        comment="what the processes of this deployment share and nobody else knows",
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("secrets")
    op.drop_table("cache_generations")
