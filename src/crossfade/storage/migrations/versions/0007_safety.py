"""Safety: policies, overrides, emergencies, and the history of violations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "safety_policies",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="revision of the change that put it"),
        sa.Column("spec", sa.Text, nullable=False, comment="JSON: `SafetyPolicySpec`"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("model"),
        comment="what answers of a model have to be",
    )
    op.create_table(
        "safety_overrides",
        sa.Column("id", sa.String(36), nullable=False, comment="sorts by time"),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("check_name", sa.String(64), nullable=False, comment="empty = every check"),
        sa.Column("version", sa.String(64), nullable=False, comment="empty = every version"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("expires_at", sa.String(27), nullable=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("ended_at", sa.String(27)),
        sa.Column("ended_by", sa.String(128), nullable=False, server_default=""),
        sa.Column("ended_because", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id"),
        comment="checks that a person turned off for a while",
    )
    op.create_index("safety_overrides_by_expiry", "safety_overrides", ["expires_at"])
    op.create_table(
        "safety_emergencies",
        sa.Column("model", sa.String(64), nullable=False, comment="empty = everything"),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", sa.String(27), nullable=False),
        sa.Column("started_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("model"),
        comment="what is stopped until a person ends it; those that were are in the audit log",
    )
    op.create_table(
        "safety_violations",
        sa.Column("id", sa.String(36), nullable=False, comment="sorts by time"),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("check_name", sa.String(64), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("minute", sa.String(27), nullable=False, comment="when the minute began"),
        sa.Column("answers", sa.BigInteger, nullable=False, comment="that violated it within the minute"),
        sa.Column("row_count", sa.BigInteger, nullable=False, comment="of those answers, that violated it"),
        sa.Column("instead", sa.String(64), nullable=False, comment="what was given the last time"),
        sa.Column("example", sa.Text, nullable=False, comment="what one of them held"),
        sa.PrimaryKeyConstraint("id"),
        comment="violations by the minute, kept for `safety.retention_days`",
    )
    key = ["model", "version", "check_name", "level", "minute"]
    op.create_index("safety_violations_by_minute", "safety_violations", key, unique=True)
    op.create_index("safety_violations_by_age", "safety_violations", ["minute"])


def downgrade() -> None:
    """Drop them."""
    for name in ("violations", "emergencies", "overrides", "policies"):
        op.drop_table(f"safety_{name}")
