"""Alerts, what was told of them, and silences."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(32), nullable=False, comment="of a rule and labels"),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("changed_at", sa.String(27), nullable=False, comment="of the newest change of the status"),
        sa.Column("body", sa.Text, nullable=False, comment="JSON: `Alert`"),
        sa.PrimaryKeyConstraint("id"),
        comment="rules that hold, or held, for something",
    )
    op.create_index("alerts_by_status", "alerts", ["status", "changed_at"])
    op.create_table(
        "alert_groups",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON: `Group`, what has been told of it"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.String(36), nullable=False, comment="of the event"),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False, comment="waiting, sent, failed"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON: `Event`"),
        sa.Column("problem", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", "channel"),
        comment="what channels shall be told, written together with what it is about",
    )
    op.create_index("messages_by_status", "messages", ["status", "created_at"])
    op.create_table(
        "silences",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("ends_at", sa.String(27), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON: `Silence`"),
        sa.PrimaryKeyConstraint("id"),
        comment="alerts that nobody is told of for a while",
    )
    op.create_index("silences_by_end", "silences", ["ends_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("silences")
    op.drop_table("messages")
    op.drop_table("alert_groups")
    op.drop_table("alerts")
