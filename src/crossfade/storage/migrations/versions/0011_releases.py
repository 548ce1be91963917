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
    _create_rollouts()
    _create_transitions()


def downgrade() -> None:
    """Drop them."""
    op.drop_table("rollout_transitions")
    op.drop_table("rollouts")
    op.drop_table("health")


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="revision of its creation: the order of rollouts"),
        sa.Column("kind", sa.String(16), nullable=False, comment="what is released: `model` or `config`"),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("plan", sa.Text, nullable=False, comment="canonical JSON, as it was asked"),
        sa.Column("state", sa.Text, nullable=False, comment="JSON: where it is in its plan"),
        sa.Column("evidence", sa.Text, nullable=False, comment="JSON: what was counted since its beginning"),
        sa.Column(
            "routing", sa.Text, comment="what serving knows about it; null = both versions are left to themselves"
        ),
        sa.Column("stable", sa.String(64), nullable=False),
        sa.Column("candidate", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, comment="identity of the candidate"),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("fast", sa.Boolean, nullable=False, comment="returns to a version that had the traffic a moment ago"),
        sa.Column(
            "latched", sa.Boolean, nullable=False, comment="the candidate may not come again without a person's word"
        ),
        sa.Column(
            "seen", sa.BigInteger, nullable=False, comment="changes of this row: whoever writes names what they saw"
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("finished_at", sa.String(27)),
        sa.Column("held_until", sa.String(27), comment="until when the version before stays loaded"),
        sa.PrimaryKeyConstraint("name"),
        comment="versions on their way to all traffic",
    )
    op.create_index("rollouts_by_number", "rollouts", ["number"], unique=True)
    op.create_index("rollouts_by_subject", "rollouts", ["kind", "subject", "number"])
    under_way = sa.text("status IN ('preparing', 'progressing', 'paused')")
    op.create_index(
        "rollouts_one_per_subject",
        "rollouts",
        ["kind", "subject"],
        unique=True,
        sqlite_where=under_way,
        postgresql_where=under_way,
    )


def _create_transitions() -> None:
    op.create_table(
        "rollout_transitions",
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="of the controller that did it; 0 = a person"),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "seq"),
        comment="what happened to each rollout; only ever added to",
    )
    is_rollback = sa.text("kind = 'rollback'")
    op.create_index(
        "rollout_transitions_one_rollback",
        "rollout_transitions",
        ["rollout"],
        unique=True,
        sqlite_where=is_rollback,
        postgresql_where=is_rollback,
    )
