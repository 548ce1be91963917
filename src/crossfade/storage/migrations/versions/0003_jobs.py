"""Batch jobs, and the parts of their results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables, empty."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False, comment="chosen by the client"),
        sa.Column("number", sa.BigInteger, nullable=False, comment="revision of its creation: the order of jobs"),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False, comment="pinned when the job was accepted"),
        sa.Column("request", sa.Text, nullable=False, comment="canonical JSON, as it was asked"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("input_digest", sa.String(64), nullable=False),
        sa.Column("input_bytes", sa.BigInteger, nullable=False),
        sa.Column("bytes_done", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_done", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("busy_ms", sa.BigInteger, nullable=False, server_default="0", comment="time spent on committed rows"),
        sa.Column("problem", sa.Text, nullable=False, server_default=""),
        sa.Column("result_digest", sa.String(64)),
        sa.Column("result_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "kept", sa.Boolean, nullable=False, server_default="1", comment="whether file and result are protected"
        ),
        sa.Column(
            "epoch", sa.BigInteger, nullable=False, server_default="0", comment="of the claim; fences older ones off"
        ),
        sa.Column("lease_until", sa.String(27), nullable=False, comment="when another process may claim it"),
        sa.Column(
            "attempts", sa.Integer, nullable=False, server_default="0", comment="claims that ended without a word"
        ),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("started_at", sa.String(27)),
        sa.Column("progressed_at", sa.String(27), nullable=False),
        sa.Column("finished_at", sa.String(27)),
        sa.PrimaryKeyConstraint("id"),
        comment="batch jobs",
    )
    op.create_index("jobs_by_state", "jobs", ["state", "lease_until"])
    op.create_index("jobs_by_number", "jobs", ["number"], unique=True)
    op.create_index("jobs_by_model", "jobs", ["model", "number"])
    op.create_index("jobs_by_input", "jobs", ["input_digest"])
    op.create_index("jobs_by_result", "jobs", ["result_digest"])
    op.create_table(
        "job_parts",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("first_row", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job", "first_row"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
        comment="answers of the chunks that an unfinished job has done; the result is made of them",
    )
    op.create_index("job_parts_by_digest", "job_parts", ["digest"])


def downgrade() -> None:
    """Drop both."""
    op.drop_table("job_parts")
    op.drop_table("jobs")
