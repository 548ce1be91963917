"""Histories are found: what the audit log says of one thing, and what happened lately."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the audit log by what it is about and by time, and moves of aliases by time."""
    op.create_index("audit_by_subject", "audit", ["subject", "seq"])
    op.create_index("audit_by_time", "audit", ["at"])
    op.create_index("alias_history_by_time", "alias_history", ["moved_at"])


def downgrade() -> None:
    """Look through all of it again."""
    op.drop_index("alias_history_by_time", "alias_history")
    op.drop_index("audit_by_time", "audit")
    op.drop_index("audit_by_subject", "audit")
