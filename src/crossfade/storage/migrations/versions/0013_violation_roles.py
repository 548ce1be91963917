"""Violations by what the answer was for: given, a shadow's copy, or tried in the place of another one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KEY = ["model", "version", "check_name", "level"]


def upgrade() -> None:
    """Tell them apart from now on; what was counted before counts as answers."""
    role = sa.Column("role", sa.String(16), nullable=False, server_default="answer", comment="what the answer was for")
    op.add_column("safety_violations", role)
    op.drop_index("safety_violations_by_minute", "safety_violations")
    op.create_index("safety_violations_by_minute", "safety_violations", [*_KEY, "role", "minute"], unique=True)


def downgrade() -> None:
    """Forget what was no answer, and the difference."""
    op.execute("DELETE FROM safety_violations WHERE role <> 'answer'")
    op.drop_index("safety_violations_by_minute", "safety_violations")
    op.create_index("safety_violations_by_minute", "safety_violations", [*_KEY, "minute"], unique=True)
    op.drop_column("safety_violations", "role")
